package merge

import (
	"sync/atomic"

	"tare/engine/tensor/kernel"
)

// SCE (select, calculate, erase: Wan et al. 2024, arXiv:2408.07990) weighs models by how
// much of the tensor they changed. Of the entries in which the models' changes τ_k vary at
// all the fraction select_topk with the largest variance is kept, a model's weight is the
// mean of its τ² over the sum of all, and changes against the sign of Σ τ are left out:
//
//	out = θ₀ + Σ w_k τ_k / Σ w_k   over the models with the elected sign
func SCE(in *Input) error {
	const least = 1e-6 // mergekit's, of the weights that take part
	f := in.Found.(*sce)
	base, out, k := in.Base.F32(), in.Out.F32(), len(in.Models)
	spans(len(out), func(lo, hi int) {
		deltas := f.changes(make([]float32, (k+1)*(hi-lo)), in, lo, hi)
		for i := range hi - lo {
			var sum, kept, d float32
			for _, delta := range deltas {
				sum += delta[i]
			}
			for m, delta := range deltas {
				if v := delta[i]; v > 0 && sum >= 0 || v < 0 && sum < 0 {
					kept += float32(v * f.weights[m])
					d += f.weights[m]
				}
			}
			out[lo+i] = base[lo+i] + kept/max(d, least)
		}
	})
	return nil
}

// sce is what SCE finds of a tensor: the least variance that is kept, nil for all, and
// the models' weights.
type sce struct {
	kept    mask
	weights []float32
}

func measureSCE(t *Whole) (any, error) {
	f := &sce{}
	if err := f.choose(t); err != nil {
		return nil, err
	}
	n, k := float64(size(t.Shape)), len(t.Params)
	squares, all := make([]float64, k), 0.0
	err := t.Each(func(in *Input) error {
		sums(in.Off, in.Base.Len(), 0, k, k+1, func(u unit, sum []float64, work []float32) {
			for i, delta := range f.changes(work, in, u.lo, u.hi) {
				sum[i] = dot(delta, delta)
			}
		}, func(_ int, sum []float64) {
			for i, s := range sum {
				squares[i] += s / n
				all += s / n
			}
		})
		return nil
	})
	for _, s := range squares {
		w := s / all
		if all < 1e-6 { // mergekit's: too little to tell them apart by
			w = 1 / float64(k)
		}
		f.weights = append(f.weights, float32(w))
	}
	return f, err
}

// choose finds which entries are kept.
func (f *sce) choose(t *Whole) error {
	share := t.Global["select_topk"]
	if share >= 1 {
		return nil
	}
	var varying atomic.Int64
	err := t.Each(func(in *Input) error {
		kernel.Parallel(in.Base.Len(), grain, func(lo, hi int) {
			v := make([]float32, hi-lo)
			variance(v, in, lo)
			n := 0
			for _, x := range v {
				if x != 0 {
					n++
				}
			}
			varying.Add(int64(n))
		})
		return nil
	})
	f.kept = keepNone{}
	if k := int(float64(varying.Load()) * share); k > 0 && err == nil {
		least := &mark{value: variance, rank: k - 1, fromTop: true}
		f.kept = largest{least}
		err = find(t, []*mark{least})
	}
	return err
}

// variance ranks by how the models' changes of an entry vary.
func variance(dst []float32, in *Input, at int) {
	k := float64(len(in.Models))
	for i := range dst {
		mean, sum := 0.0, 0.0
		for _, m := range in.Models {
			mean += float64(m.F32()[at+i]-in.Base.F32()[at+i]) / k
		}
		for _, m := range in.Models {
			d := float64(m.F32()[at+i]-in.Base.F32()[at+i]) - mean
			sum += d * d
		}
		dst[i] = float32(sum / k)
	}
}

// changes returns the models' changes of a piece's entries lo to hi, those that are not
// kept zero, in work.
func (f *sce) changes(work []float32, in *Input, lo, hi int) [][]float32 {
	n := hi - lo
	var deltas [][]float32
	for i := range in.Models {
		delta := work[i*n:][:n]
		changeOf(i)(delta, in, lo)
		deltas = append(deltas, delta)
	}
	if f.kept == nil {
		return deltas
	}
	v := work[len(in.Models)*n:][:n]
	variance(v, in, lo)
	f.kept.apply(v, in.Off+lo)
	for i, x := range v {
		if x != 0 {
			continue
		}
		for _, delta := range deltas {
			delta[i] = 0
		}
	}
	return deltas
}
