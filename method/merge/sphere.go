package merge

import (
	"fmt"
	"math"
	"slices"

	"tare/engine/tensor"
	"tare/engine/tensor/kernel"
)

// Span is a merge that lies in the span of the models: each vector of the result is
// Σ w_k v_k, and the weights follow from the vectors' inner products alone. The
// products are summed in float64 while the tensor streams by.
type Span struct {
	FromBase bool // vectors are changes from the base where there is one; else the base is one of them
	Along    func(global Params) axis
	Weigh    func(p products, in *Input, w []float64) error
}

func whole(Params) axis { return flat }

// method makes it a row of the family.
func (s Span) method(name string, base Use, least, most int, params ...Param) Method {
	return Method{Name: name, Base: base, Least: least, Most: most, Params: params, Measure: s.measure, Merge: s.merge}
}

// vectors returns the base, where there is one, and the models.
func vectors(in *Input) []*tensor.Tensor {
	if in.Base == nil {
		return in.Models
	}
	return append([]*tensor.Tensor{in.Base}, in.Models...)
}

// spanWeights are the weights of the base and the models by group.
type spanWeights struct {
	*gram
	w []float32
}

func (s Span) measure(t *Whole) (any, error) {
	fromBase, all := s.FromBase && t.HasBase, vectors
	if fromBase {
		all = func(in *Input) []*tensor.Tensor { return in.Models }
	}
	g, err := measureGram(t, s.Along(t.Global), fromBase, all)
	if err != nil {
		return nil, err
	}
	found := spanWeights{gram: g}
	w := make([]float64, g.k)
	for i := range g.groups {
		clear(w)
		if err := s.Weigh(g.of(i), &t.Input, w); err != nil {
			return nil, fmt.Errorf("merge: %s: %w", t.Name, err)
		}
		if fromBase { // base + Σ w (θ − base)
			rest := 1.0
			for _, x := range w {
				rest -= x
			}
			found.w = append(found.w, float32(rest))
		}
		for _, x := range w {
			found.w = append(found.w, float32(x))
		}
	}
	return found, nil
}

func (s Span) merge(in *Input) error {
	f := in.Found.(spanWeights)
	v, out := vectors(in), in.Out.F32()
	k := len(v)
	switch f.along {
	case flat:
		combine(out, f.w, 1, v)
	case rows:
		list := units(nil, in.Off, len(out), f.length)
		kernel.Parallel(len(list), 1, func(lo, hi int) {
			for _, u := range list[lo:hi] {
				w := f.w[f.group(in.Off+u.lo)*k:][:k]
				dst := out[u.lo:u.hi]
				clear(dst)
				for i := range v {
					kernel.Axpy(w[i], v[i].F32()[u.lo:u.hi], dst)
				}
			}
		})
	case columns:
		spans(len(out), func(lo, hi int) {
			for at := lo; at < hi; at++ {
				w := f.w[f.group(in.Off+at)*k:][:k]
				var x float32
				for i := range v {
					x += w[i] * v[i].F32()[at]
				}
				out[at] = x
			}
		})
	}
	return nil
}

// arc returns the weights of two vectors at t along the arc between them, cos being
// the cosine of the angle θ that they enclose:
//
//	sin((1−t)θ)/sin θ,   sin(tθ)/sin θ
func arc(t, cos float64) (float64, float64) {
	theta := math.Acos(cos)
	return math.Sin((1-t)*theta) / math.Sin(theta), math.Sin(t*theta) / math.Sin(theta)
}

func clamp(x float64) float64 { return max(-1, min(1, x)) }

// Slerp goes from the base, t = 0, to the other model, t = 1, along the arc between
// their directions (Shoemake 1985). Nearly parallel tensors, |cos| > 0.9995 as in
// mergekit, are joined by a straight line.
var Slerp = Span{Along: whole, Weigh: func(p products, in *Input, w []float64) error {
	const parallel, least = 0.9995, 1e-8
	t := in.Global["t"]
	norm := func(i int) float64 {
		if n := p.norm(i); n > least {
			return n
		}
		return 1
	}
	cos := clamp(p.at(0, 1) / norm(0) / norm(1))
	if math.Abs(cos) > parallel {
		w[0], w[1] = 1-t, t
		return nil
	}
	w[0], w[1] = arc(t, cos)
	return nil
}}

// NuSlerp is the arc between two models, or between their changes from a base, at
// t = w₂/(w₁ + w₂), by tensor or by vector of it.
var NuSlerp = Span{FromBase: true,
	Along: func(g Params) axis {
		switch {
		case g.on("nuslerp_flatten"):
			return flat
		case g.on("nuslerp_row_wise"):
			return columns
		}
		return rows
	},
	Weigh: func(p products, in *Input, w []float64) error {
		const least = 1e-7
		t, sum := 0.5, in.Params[0]["weight"]+in.Params[1]["weight"]
		if math.Abs(sum) >= 1e-6 {
			t = in.Params[1]["weight"] / sum
		}
		// Rounded to f32 as in mergekit, which tells parallel vectors by it.
		cos := float32(clamp(p.at(0, 1) / max(least, p.norm(0)) / max(least, p.norm(1))))
		if 1-cos*cos <= 0 {
			w[0], w[1] = 1-t, t
			return nil
		}
		w[0], w[1] = arc(t, float64(cos))
		return nil
	}}

// Karcher is the Riemannian centre of the models' directions u_i on the sphere: from
// the normalised mean m, steps along the mean of the tangents towards all,
//
//	τ = Σ a_i θ_i/sin θ_i (u_i − cos θ_i m),   m ← cos‖τ‖ m + sin‖τ‖ τ/‖τ‖,
//
// until ‖τ‖ < tol; the norm is the mean of norms. m stays a combination of the u_i, so
// the steps need only their products.
var Karcher = Span{Along: whole, Weigh: func(p products, in *Input, w []float64) error {
	if len(w) == 1 {
		w[0] = 1
		return nil
	}
	tol := in.Global["tol"]
	var used []int
	scale := 0.0
	for i := range w {
		scale += p.norm(i) / float64(len(w))
		if p.norm(i) > tol {
			used = append(used, i)
		}
	}
	if used == nil {
		return nil
	}
	s := sphere{p, used}
	m := make([]float64, len(used))
	for i := range m {
		m[i] = 1
	}
	if n := s.norm(m); n < tol*float64(len(used)) {
		clear(m)
		m[0] = 1
	} else {
		scaleBy(m, 1/n)
	}
	for range int(in.Global["max_iter"]) {
		if s.step(m, tol) < tol {
			break
		}
	}
	for i, u := range used {
		w[u] = scale * m[i] / p.norm(u)
	}
	return nil
}}

// sphere computes with combinations of the unit vectors u_i.
type sphere struct {
	products
	used []int
}

// dot is ⟨u_i, Σ m_j u_j⟩.
func (s sphere) dot(i int, m []float64) (sum float64) {
	for j := range m {
		a, b := s.used[i], s.used[j]
		sum += m[j] * s.at(a, b) / (s.products.norm(a) * s.products.norm(b))
	}
	return sum
}

func (s sphere) norm(m []float64) float64 {
	sum := 0.0
	for i := range m {
		sum += m[i] * s.dot(i, m)
	}
	return math.Sqrt(max(0, sum))
}

// step moves m towards the centre and returns how far.
func (s sphere) step(m []float64, tol float64) float64 {
	tangent := make([]float64, len(m))
	for i := range m {
		cos := clamp(s.dot(i, m))
		theta := math.Acos(cos)
		if theta < tol {
			continue
		}
		a := theta / math.Sin(theta) / float64(len(m))
		tangent[i] += a
		for j := range m {
			tangent[j] -= a * cos * m[j]
		}
	}
	n := s.norm(tangent)
	if n < tol {
		return n
	}
	for i := range m {
		m[i] = math.Cos(n)*m[i] + math.Sin(n)/n*tangent[i]
	}
	if unit := s.norm(m); unit > tol {
		scaleBy(m, 1/unit)
	}
	return n
}

func scaleBy(m []float64, by float64) {
	for i := range m {
		m[i] *= by
	}
}

// MultiSlerp is the barycentre of several directions, in one step: the normalised
// weighted mean m, then along the weighted mean of the tangents, and of the weighted
// mean's norm (Goddard's multislerp of mergekit):
//
//	τ = Σ w_i (u_i − ⟨u_i, m⟩ m),   m cos‖τ‖ + τ sin‖τ‖/‖τ‖
var MultiSlerp = Span{FromBase: true, Along: whole, Weigh: func(p products, in *Input, w []float64) error {
	if len(w) == 1 {
		w[0] = 1
		return nil
	}
	sum := 0.0
	for i := range w {
		w[i] = in.Params[i]["weight"]
		sum += w[i]
	}
	if in.Global.on("normalize_weights") {
		if math.Abs(sum) < 1e-8 {
			return ErrWeights
		}
		scaleBy(w, 1/sum)
	}
	eps, scale := in.Global["eps"], 0.0
	s := sphere{products: p} // of vectors that have a direction
	var m []float64
	for i := range w {
		if n := p.norm(i); n > 0 {
			scale += w[i] * n
			s.used, m = append(s.used, i), append(m, w[i])
		}
	}
	tangent, along := slices.Clone(m), 0.0
	n := s.norm(m)
	switch {
	case n >= eps:
	case len(m) > 2:
		return fmt.Errorf("%w: the directions cancel out; choose other weights", ErrWeights)
	default:
		return nil // the weighted mean
	}
	scaleBy(m, 1/n)
	for i := range tangent {
		along += tangent[i] * s.dot(i, m)
	}
	for i := range tangent {
		tangent[i] -= along * m[i]
	}
	n = s.norm(tangent) + eps
	for i, u := range s.used {
		w[u] = scale * (math.Cos(n)*m[i] + math.Sin(n)/n*tangent[i]) / p.norm(u)
	}
	return nil
}}
