package merge

import (
	"math"

	"tare/engine/tensor/kernel"
)

// ArceeFusion takes over the changes of one model that matter (Arcee Fusion of mergekit). Of
// each vector along the last dimension, P and Q its softmax in the model and the base
// (plus 10⁻⁸), the importance of an entry is
//
//	|θ − θ₀| KL(P ‖ Q),
//
// and entries are taken whose importance is at least the median plus one and a half times
// the distance of the quartiles. mergekit draws a sample for the quartiles of tensors above
// a million entries; here they are those of all.
func ArceeFusion(in *Input) error {
	f := in.Found.(*fusion)
	x, base, out := in.Models[0].F32(), in.Base.F32(), in.Out.F32()
	spans(len(out), func(lo, hi int) {
		f.importance(out[lo:hi], in, lo)
		for i := lo; i < hi; i++ {
			if out[i] >= f.least {
				out[i] = base[i] + (x[i] - base[i])
			} else {
				out[i] = base[i]
			}
		}
	})
	return nil
}

// fusion is what ArceeFusion finds of a tensor.
type fusion struct {
	kl    []float32 // by vector
	along int       // entries of a vector
	least float32
}

func measureFusion(t *Whole) (any, error) {
	f := &fusion{along: size(t.Shape)}
	if len(t.Shape) > 0 {
		f.along = t.Shape[len(t.Shape)-1]
	}
	err := t.Each(func(in *Input) error {
		x, base := in.Models[0].F32(), in.Base.F32()
		own := make([]float32, len(x)/max(f.along, 1))
		kernel.Parallel(len(own), 1, func(lo, hi int) {
			for r := lo; r < hi; r++ {
				own[r] = divergence(x[r*f.along:][:f.along], base[r*f.along:][:f.along])
			}
		})
		f.kl = append(f.kl, own...)
		return nil
	})
	if err != nil {
		return nil, err
	}
	last := float32(size(t.Shape) - 1)
	quartile := func(q float32) *mark { return &mark{value: f.importance, rank: int(q * last)} }
	q1, median, q3 := quartile(0.25), quartile(0.5), quartile(0.75)
	err = find(t, []*mark{q1, median, q3})
	value := func(m *mark) float32 { return math.Float32frombits(m.magnitude) }
	f.least = value(median) + 1.5*(value(q3)-value(q1))
	return f, err
}

// divergence is KL(P ‖ Q) of the softmax of two vectors; rounding never makes it
// negative.
func divergence(x, base []float32) float32 {
	const eps = 1e-8
	softmax := func(v []float32) (top, sum float64) {
		top = math.Inf(-1)
		for _, a := range v {
			top = max(top, float64(a))
		}
		for _, a := range v {
			sum += math.Exp(float64(a) - top)
		}
		return top, sum
	}
	topX, sumX := softmax(x)
	topB, sumB := softmax(base)
	kl := 0.0
	for i := range x {
		p := math.Exp(float64(x[i])-topX)/sumX + eps
		q := math.Exp(float64(base[i])-topB)/sumB + eps
		kl += p * math.Log(p/q)
	}
	return float32(max(0, kl))
}

// importance writes the importance of entries.
func (f *fusion) importance(dst []float32, in *Input, at int) {
	x, base := in.Models[0].F32()[at:], in.Base.F32()[at:]
	for i := range dst {
		dst[i] = math.Float32frombits(magnitude(x[i]-base[i])) * f.kl[(in.Off+at+i)/f.along]
	}
}
