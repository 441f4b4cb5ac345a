package merge

import (
	"fmt"
	"math"

	"tare/engine/tensor/kernel"
)

// Change is the general form of merges that add up what models changed. With the task
// vectors τ_k = θ_k − θ₀ (Ilharco et al. 2023, arXiv:2212.04089):
//
//	sparsify   τ_k ← mask_k ⊙ τ_k, then times Σ|τ_k| / Σ|mask_k ⊙ τ_k| if rescaled
//	weigh      δ_k = w_k τ_k
//	elect      drop δ_k whose sign is not that of Σ δ_k       (TIES)
//	add        out = θ₀ + λ Σ δ_k / d
//
// d is one, or with normalize the sum of the weights that took part. TIES (Yadav et
// al. 2023, arXiv:2306.01708), DARE (Yu et al. 2023, arXiv:2311.03099), DELLA (Deep et
// al. 2024, arXiv:2406.11617) and Breadcrumbs (Davari and Belilovsky 2023,
// arXiv:2312.06795) differ in the mask and in whether signs are elected. The order of
// operations, and that rescaling keeps the sum of magnitudes, are mergekit's.
type Change struct {
	Sparsify           Sparsify
	Elect              bool
	Normalize, Rescale bool // what holds where the recipe is silent
}

// Breadcrumbs drops of each task vector its outliers and its smallest entries.
var Breadcrumbs = Change{Sparsify: WithoutOutliers}

// method makes it a row of the family.
func (c Change) method(name, slug string) Method {
	standard := map[bool]float64{true: 1}
	m := Method{Name: name, Slug: slug, Base: BaseRequired, Least: 1, Repeat: c.Sparsify == KeepAll, Check: c.check, Merge: c.merge}
	m.Params = append(m.Params, anyWeight,
		Param{"lambda", false, 1, math.Inf(-1), math.Inf(1), "factor of the whole change"},
		Param{"normalize", false, standard[c.Normalize], 0, 1, normalize.About})
	if c.Sparsify != KeepAll {
		m.Measure = c.measure
		m.Params = append(m.Params, Param{"density", true, 1, 0, 1, "the fraction that is kept"},
			Param{"rescale", false, standard[c.Rescale], 0, 1, "keep the sum of magnitudes"})
	}
	switch c.Sparsify {
	case WithoutOutliers:
		m.Params = append(m.Params, Param{"gamma", true, 0.01, 0, 1, "the fraction of largest changes that is dropped"})
	case ByRank:
		m.Cut = CutRows
		m.Params = append(m.Params, Param{"epsilon", true, 0.15, 0, 0.5, "how far the smallest and largest of a row keep from the density"})
	}
	return m
}

// check refuses weights without a sum to divide by, and probabilities beyond 0 and 1.
func (c Change) check(models []Params, global Params) error {
	for _, p := range models {
		density, epsilon := p["density"], p["epsilon"]
		if c.Sparsify == ByRank && density > 0 && density < 1 && (density-epsilon <= 0 || density+epsilon >= 1) {
			return fmt.Errorf("%w: density %g ± epsilon %g reaches 0 or 1; choose a smaller epsilon", ErrRecipe, density, epsilon)
		}
	}
	if c.Elect { // the sum is another at each entry, and one where it is zero
		return nil
	}
	return canNormalize(models, global)
}

// masked is what measure finds: each model's mask and its factor.
type masked struct {
	masks  []mask
	factor []float32
}

func (c Change) measure(t *Whole) (any, error) {
	masks, err := c.Sparsify.masks(t)
	if err != nil {
		return nil, err
	}
	found := masked{masks, make([]float32, len(masks))}
	for i := range found.factor {
		found.factor[i] = 1
	}
	if t.Global.on("rescale") {
		err = found.rescale(t)
	}
	return found, err
}

// rescale sets the factors that give each task vector its sum of magnitudes back.
func (f masked) rescale(t *Whole) error {
	const least = 1e-7 // mergekit's
	k := len(f.masks)
	all := make([]float64, 2*k) // by model: the sums before and after
	err := t.Each(func(in *Input) error {
		base, row := in.Base.F32(), rowOf(in.Shape)
		kept := make([][]float32, k) // the piece's masked changes, where a mask is of whole rows
		for i, m := range f.masks {
			if _, byRow := m.(*ranked); byRow {
				kept[i] = make([]float32, len(base))
				kernel.Sub(kept[i], in.Models[i].F32(), base)
				m.apply(kept[i], in.Off)
			}
		}
		sums(in.Off, len(base), row, 2*k, 1, func(u unit, sum []float64, work []float32) {
			for i, m := range f.masks {
				v := difference(work, in.Models[i].F32()[u.lo:u.hi], base, u.lo)
				sum[2*i] = total(v)
				if kept[i] != nil {
					v = kept[i][u.lo:u.hi]
				} else {
					m.apply(v, in.Off+u.lo)
				}
				sum[2*i+1] = total(v)
			}
		}, func(_ int, sum []float64) {
			for i, s := range sum {
				all[i] += s
			}
		})
		return nil
	})
	for i := range f.factor {
		if before, after := all[2*i], all[2*i+1]; before >= least && after >= least {
			f.factor[i] = float32(before) / float32(after)
		}
	}
	return err
}

// rowOf returns the entries of a tensor's row; all where it has no rows.
func rowOf(shape []int) int {
	if len(shape) < 2 || shape[0] == 0 {
		return size(shape)
	}
	return size(shape[1:])
}

func (c Change) merge(in *Input) error {
	w, _ := weights(in.Params)
	lambda := float32(in.Global["lambda"])
	if lambda == 0 {
		copy(in.Out.F32(), in.Base.F32())
		return nil
	}
	if c.Sparsify == KeepAll && !c.Elect && lambda == 1 && !in.Global.on("normalize") {
		if only := lone(w); only >= 0 { // the model itself, whose bits θ₀ + (θ − θ₀) would not give
			copy(in.Out.F32(), in.Models[only].F32())
			return nil
		}
	}
	found, _ := in.Found.(masked)
	n := in.Out.Len()
	byRow, row := len(found.masks) > 0 && c.Sparsify == ByRank, rowOf(in.Shape)
	if !byRow {
		spans(n, func(lo, hi int) { c.add(in, found, w, lambda, lo, hi) })
		return nil
	}
	kernel.Parallel(n/max(row, 1), 1, func(lo, hi int) {
		for r := lo; r < hi; r++ {
			c.add(in, found, w, lambda, r*row, (r+1)*row)
		}
	})
	return nil
}

// lone returns the only model whose weight is not zero if that is one, else -1.
func lone(w []float32) int {
	only := -1
	for i, x := range w {
		switch {
		case x == 0:
		case x != 1 || only >= 0:
			return -1
		default:
			only = i
		}
	}
	return only
}

// add merges the entries lo to hi of a piece.
func (c Change) add(in *Input, found masked, w []float32, lambda float32, lo, hi int) {
	base, out, n := in.Base.F32()[lo:hi], in.Out.F32()[lo:hi], hi-lo
	work := make([]float32, (len(w)+1)*n)
	divisor := work[len(w)*n:]
	for k := range w {
		delta := work[k*n:][:n]
		kernel.Sub(delta, in.Models[k].F32()[lo:hi], base)
		if found.masks != nil {
			found.masks[k].apply(delta, in.Off+lo)
			if f := found.factor[k]; f != 1 {
				kernel.Scale(f, delta)
			}
		}
		if w[k] != 1 {
			kernel.Scale(w[k], delta)
		}
	}
	copy(out, work[:n])
	for k := 1; k < len(w); k++ {
		kernel.Add(out, out, work[k*n:][:n])
	}
	normal := in.Global.on("normalize")
	switch {
	case c.Elect:
		elect(out, work[:len(w)*n], divisor, w)
	case normal:
		_, sum := weights(in.Params)
		for i := range divisor {
			divisor[i] = sum
		}
	}
	if normal {
		for i := range out {
			out[i] /= divisor[i]
		}
	}
	if lambda != 1 {
		kernel.Scale(lambda, out)
	}
	kernel.Add(out, base, out)
}

// elect replaces the sums of the weighted changes by those of the changes that have
// the sum's sign, zero counting as positive, and sets the divisor to the sum of their
// weights, one where that is zero. Signs follow no pattern, so that it works on bits
// instead of branching.
func elect(sum, deltas, divisor, w []float32) {
	const sign = 1 << 31
	n := len(sum)
	for i, s := range sum {
		elected := math.Float32bits(s) & sign
		var kept, d float32
		for k, x := range w {
			v := math.Float32bits(deltas[k*n+i])
			same := (v^elected)>>31 - 1                // all ones for the elected sign
			moved := uint32(int32(-(v &^ sign)) >> 31) // all ones for a change at all
			kept += math.Float32frombits(v & same & moved)
			d += math.Float32frombits(math.Float32bits(x) & same & moved)
		}
		sum[i], divisor[i] = kept, d
	}
	for i, d := range divisor {
		if d == 0 {
			divisor[i] = 1
		}
	}
}
