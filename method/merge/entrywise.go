package merge

import (
	"math"
	"sync/atomic"

	"tare/engine/tensor/kernel"
)

// Nearswap goes from the base to the other model by min(1, t/|θ − θ₀|), entry by entry:
// far where they are near. Differences below 10⁻⁶ count as that much, as in mergekit.
func Nearswap(in *Input) error {
	const least = 1e-6
	t := float32(in.Global["t"])
	base, x, out := in.Base.F32(), in.Models[0].F32(), in.Out.F32()
	spans(len(out), func(lo, hi int) {
		for i := lo; i < hi; i++ {
			d := math.Float32frombits(magnitude(base[i] - x[i]))
			w := max(0, min(1, 1/max(d, least)*t))
			out[i] = float32(w*x[i]) + float32((1-w)*base[i]) // products rounded, as the conversions ask for
		}
	})
	return nil
}

// RAM adds to the base what each model alone has changed by more than epsilon, and the
// mean of what several have (reinforced agent merging, arXiv:2601.13572). With Boost a
// model's own changes are scaled by 1 + r min(α, shared/own), its numbers of entries of
// either kind in the tensor.
type RAM struct{ Boost bool }

// measure finds each model's factor of its own changes.
func (RAM) measure(t *Whole) (any, error) {
	epsilon, r, alpha := float32(t.Global["epsilon"]), t.Global["r"], t.Global["alpha"]
	own, shared := make([]atomic.Int64, len(t.Params)), make([]atomic.Int64, len(t.Params))
	err := t.Each(func(in *Input) error {
		base := in.Base.F32()
		kernel.Parallel(len(base), grain, func(lo, hi int) {
			counts := make([][2]int64, len(in.Models))
			for i := lo; i < hi; i++ {
				n := changed(in, i, epsilon)
				for k, m := range in.Models {
					if n > 0 && magnitude(m.F32()[i]-base[i]) > math.Float32bits(epsilon) {
						counts[k][min(n, 2)-1]++
					}
				}
			}
			for k, c := range counts {
				own[k].Add(c[0])
				shared[k].Add(c[1])
			}
		})
		return nil
	})
	factors := make([]float32, len(own))
	for k := range factors {
		ratio := float64(shared[k].Load()) / max(float64(own[k].Load()), t.Global["epsilon"])
		factors[k] = float32(1 + r*min(alpha, ratio))
	}
	return factors, err
}

// changed returns how many models have changed an entry.
func changed(in *Input, i int, epsilon float32) (n int) {
	for _, m := range in.Models {
		if magnitude(m.F32()[i]-in.Base.F32()[i]) > math.Float32bits(epsilon) {
			n++
		}
	}
	return n
}

func (RAM) merge(in *Input) error {
	epsilon := float32(in.Global["epsilon"])
	factors, _ := in.Found.([]float32)
	base, out := in.Base.F32(), in.Out.F32()
	spans(len(out), func(lo, hi int) {
		for i := lo; i < hi; i++ {
			n := changed(in, i, epsilon)
			var sum float32
			for k, m := range in.Models {
				d := m.F32()[i] - base[i]
				switch {
				case magnitude(d) <= math.Float32bits(epsilon):
				case n > 1:
					sum += d / float32(n)
				case factors != nil:
					sum += float32(d * factors[k])
				default:
					sum += d
				}
			}
			out[i] = base[i] + sum
		}
	})
	return nil
}

// method makes it a row of the family.
func (r RAM) method(name string) Method {
	m := Method{Name: name, Base: BaseRequired, Least: 1, Merge: r.merge,
		Params: []Param{{"epsilon", false, 1e-5, 0, math.Inf(1), "a change up to it is none"}}}
	if r.Boost {
		m.Measure = r.measure
		m.Params = append(m.Params, Param{"r", false, 0.1, 0, math.Inf(1), "how much sharing boosts a model's own changes"},
			Param{"alpha", false, 0.2, 0, math.Inf(1), "most that the ratio of shared to own changes counts"})
	}
	return m
}
