package optimize

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/lapack/lapack64"
	"gonum.org/v1/gonum/mat"
)

// system is a Newton system K z = b, K symmetric, and what has been computed for it.
type system struct {
	size     int
	k        *sparse
	b        []float64
	elements float64 // of K
	flops    float64
	lu       *mat.LU
}

// newSystem writes K and b at a point.
func newSystem(hessian []Entry, q *point, gamma float64) *system {
	n, m := len(q.x), len(q.c)
	s := &system{size: n + m, b: make([]float64, n+m)}
	entries := append([]Entry(nil), hessian...)
	for i := range m {
		index, value := q.g.row(i)
		for e, j := range index {
			entries = append(entries, Entry{int32(n + i), j, value[e]}, Entry{j, int32(n + i), value[e]})
		}
		s.b[n+i] = -q.c[i]
	}
	for i := range n {
		if gamma > 0 {
			entries = append(entries, Entry{int32(i), int32(i), gamma})
		}
		s.b[i] = -q.slope[i]
	}
	s.k = summed(n+m, entries)
	s.elements = float64(len(s.k.value))
	return s
}

// with is the same system with another γ.
func (s *system) with(hessian []Entry, q *point, gamma float64) *system {
	next := newSystem(hessian, q, gamma)
	next.flops = s.flops
	return next
}

// summed is a matrix in which elements at the same place are one, and zeros none.
func summed(rows int, entries []Entry) *sparse {
	m := matrix(rows, entries)
	at := make([]float64, rows)
	seen := make([]bool, rows)
	out := &sparse{start: []int{0}}
	for i := range rows {
		index, value := m.row(i)
		for e, j := range index {
			at[j] += value[e]
		}
		for _, j := range index {
			if !seen[j] && at[j] != 0 {
				out.index, out.value = append(out.index, j), append(out.value, at[j])
			}
			seen[j] = true
		}
		for _, j := range index {
			at[j], seen[j] = 0, false
		}
		out.start = append(out.start, len(out.index))
	}
	return out
}

// residual returns b − K z.
func (s *system) residual(z []float64) []float64 {
	r := append([]float64(nil), s.b...)
	s.k.addTo(r, -1, z)
	s.flops += 2 * s.elements
	return r
}

// innerSolver brings z nearer to the solution of a system until ‖K z − b‖ ≤ tol, and returns
// that norm. Running out of passes is no error: the caller sees the norm.
type innerSolver interface {
	solve(ctx context.Context, s *system, z []float64, tol float64) (float64, error)
}

func (o *SketchedSQP) solver(size int) innerSolver {
	switch o.Inner {
	case "lu":
		return luSolver{}
	case "gmres":
		return gmresSolver{min(o.Passes, 4*size)}
	}
	block := o.Block
	if block == 0 {
		block = max(size/8, 1)
	}
	return &sketchSolver{kind: o.Sketch, block: min(block, size), passes: o.Passes, rng: rand.New(rand.NewPCG(o.Seed, 56))}
}

var errSingular = errors.New("singular")

// luSolver is Gauss's elimination.
type luSolver struct{}

func (luSolver) solve(_ context.Context, s *system, z []float64, _ float64) (float64, error) {
	n := float64(s.size)
	if s.lu == nil {
		s.lu = new(mat.LU)
		s.lu.Factorize(s.k.dense(s.size))
		s.flops += 2 * n * n * n / 3
	}
	if !(s.lu.Cond() < 1e15) {
		return 0, errSingular
	}
	var out mat.VecDense
	err := s.lu.SolveVecTo(&out, false, mat.NewVecDense(s.size, s.b))
	var poor mat.Condition
	if err != nil && !errors.As(err, &poor) {
		return 0, errSingular
	}
	copy(z, out.RawVector().Data)
	s.flops += 2 * n * n
	return floats.Norm(s.residual(z), 2), nil
}

// gmresSolver minimises the residual over the Krylov space (Saad and Schultz 1986), with
// modified Gram–Schmidt and Givens' rotations, never restarted before the space is whole.
type gmresSolver struct{ steps int }

func (g gmresSolver) solve(ctx context.Context, s *system, z []float64, tol float64) (float64, error) {
	for used := 0; ; {
		r := s.residual(z)
		norm := floats.Norm(r, 2)
		if norm <= tol || used >= g.steps || ctx.Err() != nil {
			return norm, nil
		}
		taken := g.cycle(s, z, r, norm, tol)
		used += taken
		if next := floats.Norm(s.residual(z), 2); !(next < 0.9*norm) && next > tol {
			return next, nil // at what rounding allows
		}
	}
}

// cycle adds to z the best of one Krylov space and returns its dimension.
func (g gmresSolver) cycle(s *system, z, r []float64, norm, tol float64) int {
	n := float64(s.size)
	floats.Scale(1/norm, r)
	v := [][]float64{r}
	var h [][]float64 // columns, rotated
	var cs, sn []float64
	t := []float64{norm}
	for j := 0; j < s.size && math.Abs(t[j]) > 0.5*tol; j++ {
		w := make([]float64, s.size)
		s.k.addTo(w, 1, v[j])
		column := make([]float64, j+2)
		for i := range j + 1 {
			column[i] = floats.Dot(w, v[i])
			floats.AddScaled(w, -column[i], v[i])
		}
		column[j+1] = floats.Norm(w, 2)
		s.flops += 2*s.elements + 4*n*float64(j+1) + 3*n
		last := column[j+1]
		for i := range j {
			column[i], column[i+1] = cs[i]*column[i]+sn[i]*column[i+1], -sn[i]*column[i]+cs[i]*column[i+1]
		}
		d := math.Hypot(column[j], last)
		if d == 0 {
			break
		}
		cs, sn = append(cs, column[j]/d), append(sn, last/d)
		column[j], column[j+1] = d, 0
		h = append(h, column)
		t = append(t, -sn[j]*t[j])
		t[j] *= cs[j]
		if last < 1e-14*d {
			break
		}
		floats.Scale(1/last, w)
		v = append(v, w)
	}
	y := make([]float64, len(h))
	for i := len(h) - 1; i >= 0; i-- {
		y[i] = t[i]
		for j := i + 1; j < len(h); j++ {
			y[i] -= h[j][i] * y[j]
		}
		y[i] /= h[i][i]
		floats.AddScaled(z, y[i], v[i])
	}
	s.flops += 2*n*float64(len(h)) + float64(len(h)*len(h))
	return max(len(h), 1)
}

// sketchSolver projects on sketched equations, one sketch after another:
//
//	z ← z + KᵀS(SᵀK KᵀS)⁻¹Sᵀ(b − K z),  S [N, block].
//
// The columns of S are unit vectors, drawn without repeating in a pass; or normal; or they make
// sums of as many rows each, with random signs, every row in one of them.
type sketchSolver struct {
	kind   string
	block  int // stays as large as a system has needed
	passes int
	rng    *rand.Rand
	order  []int
}

func (k *sketchSolver) solve(ctx context.Context, s *system, z []float64, tol float64) (float64, error) {
	r := s.residual(z)
	norm, stalled := floats.Norm(r, 2), 0
	for pass := 0; norm > tol && pass < k.passes && ctx.Err() == nil; pass++ {
		for range (s.size + k.block - 1) / k.block {
			rows, right := k.draw(s, z, r)
			k.project(s, rows, right, z)
			if k.kind != "kaczmarz" {
				r = s.residual(z)
				if norm := floats.Norm(r, 2); norm <= tol {
					return norm, nil
				}
			}
		}
		r = s.residual(z)
		now := floats.Norm(r, 2)
		switch {
		case math.IsNaN(now):
			return now, errSingular
		case k.block == s.size && now > 0.99*norm:
			if stalled++; stalled == stalls {
				return now, nil // with the whole system at once: rounding allows no more
			}
		case now > norm/2:
			k.block = min(2*k.block, s.size)
			k.order = nil
		}
		norm = now
	}
	return norm, nil
}

// stalls is how many passes over the whole system may bring nothing.
const stalls = 3

// sums are the rows of SᵀK.
type sums struct {
	index [][]int32
	value [][]float64
}

// draw returns SᵀK and Sᵀ(b − K z).
func (k *sketchSolver) draw(s *system, z, r []float64) (sums, []float64) {
	var out sums
	right := make([]float64, k.block)
	if k.kind == "kaczmarz" {
		if len(k.order) == 0 {
			k.order = k.rng.Perm(s.size)
		}
		chosen := k.order[:min(k.block, len(k.order))]
		k.order, right = k.order[len(chosen):], right[:len(chosen)]
		for i, row := range chosen {
			index, value := s.k.row(row)
			out.index, out.value = append(out.index, index), append(out.value, value)
			right[i] = s.b[row]
			for e, j := range index {
				right[i] -= value[e] * z[j]
			}
			s.flops += 2 * float64(len(index))
		}
		return out, right
	}
	all := make([]int32, s.size)
	for j := range all {
		all[j] = int32(j)
	}
	for range k.block {
		out.index, out.value = append(out.index, all), append(out.value, make([]float64, s.size))
	}
	add := func(to, row int, by float64) {
		index, value := s.k.row(row)
		for e, j := range index {
			out.value[to][j] += by * value[e]
		}
		right[to] += by * r[row]
		s.flops += 2 * float64(len(index)+1)
	}
	if k.kind == "sparse" {
		for i, row := range k.rng.Perm(s.size) {
			add(i%k.block, row, float64(k.rng.IntN(2))*2-1)
		}
		return out, right
	}
	for row := range s.size {
		for to := range k.block {
			add(to, row, k.rng.NormFloat64())
		}
	}
	return out, right
}

// project moves z to the nearest point that fulfils the sketched equations. Equations that
// depend on one another are taken as far as rounding allows.
func (k *sketchSolver) project(s *system, rows sums, right, z []float64) {
	t := len(right)
	gram := blas64.Symmetric{N: t, Stride: t, Uplo: blas.Upper, Data: make([]float64, t*t)}
	spread := make([]float64, s.size)
	var trace float64
	for i := range t {
		for e, j := range rows.index[i] {
			spread[j] += rows.value[i][e]
		}
		for l := i; l < t; l++ {
			var dot float64
			for e, j := range rows.index[l] {
				dot += rows.value[l][e] * spread[j]
			}
			gram.Data[i*t+l] = dot
			s.flops += 2 * float64(len(rows.index[l]))
		}
		for _, j := range rows.index[i] {
			spread[j] = 0
		}
		trace = max(trace, gram.Data[i*t+i])
	}
	for i := range t {
		gram.Data[i*t+i] += 1e-15 * trace
		if gram.Data[i*t+i] == 0 {
			gram.Data[i*t+i] = 1 // a row of zeros
		}
	}
	kept := append([]float64(nil), gram.Data...)
	factor, ok := lapack64.Potrf(gram)
	for ridge := 1e-14 * trace; !ok && ridge <= trace; ridge *= 100 {
		copy(gram.Data, kept)
		for i := range t {
			gram.Data[i*t+i] += ridge
		}
		factor, ok = lapack64.Potrf(gram)
	}
	if !ok {
		return
	}
	lapack64.Potrs(factor, blas64.General{Rows: t, Cols: 1, Stride: 1, Data: right})
	for i, y := range right {
		for e, j := range rows.index[i] {
			z[j] += y * rows.value[i][e]
		}
		s.flops += 2 * float64(len(rows.index[i]))
	}
	n := float64(t)
	s.flops += n*n*n/3 + 2*n*n
}
