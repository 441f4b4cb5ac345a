package quant

import (
	"fmt"
	"math"

	"tare/engine/nn"
	"tare/engine/tensor"
	"tare/engine/tensor/kernel"
)

// RTN rounds every weight to the nearest of 16 levels of its group, the baseline of
// post-training quantization. With the group's smallest and largest value widened to
// hold zero, lo ≤ 0 ≤ hi:
//
//	scale = (hi − lo)/15,   zero = round(−lo/scale),   code = round(w/scale) + zero
//
// so that zero is always exact and the error at most half a scale. Scales are stored
// in f16, rounded up so that the levels still span the group, and zero and codes are
// rounded against the stored scale. The symmetric form has scale = max|w|/7.5 and
// zero = 8.
type RTN struct {
	Group     int  // weights that share a scale; a multiple of 32
	Symmetric bool // no zero points
}

// Needs implements LayerMethod: nothing.
func (*RTN) Needs() Stats { return Stats{} }

// QuantizeLayer implements LayerMethod.
func (m *RTN) QuantizeLayer(name string, w *tensor.Tensor, _ *Observed) (nn.Weight, error) {
	out, in := w.Dim(0), w.Dim(1)
	q := kernel.NewQ4(out, in, m.Group)
	data, groups := w.F32(), (in+m.Group-1)/m.Group
	kernel.Parallel(out, 1+(1<<13)/in, func(lo, hi int) {
		for r := lo; r < hi; r++ {
			for g := range groups {
				from, to := g*m.Group, min((g+1)*m.Group, in)
				stored, zero := m.grid(data[r*in+from : r*in+to])
				q.Scales[r*groups+g], q.Zeros[r*groups+g] = stored, uint8(zero)
				scale := halfValue(stored)
				q.Pack(r, from, data[r*in+from:r*in+to], scale, zero)
			}
		}
	})
	for i, s := range q.Scales {
		if s >= halfInf {
			return nil, fmt.Errorf("quant: %s: row %d has weights too large for an f16 scale; rescale the layer first", name, i/groups)
		}
	}
	return &nn.Packed4{Name: name, Q: q}, nil
}

// grid returns the stored scale and the zero point of a group.
func (m *RTN) grid(w []float32) (scale uint16, zero int) {
	var lo, hi float32
	for _, v := range w {
		if v < lo {
			lo = v
		} else if v > hi {
			hi = v
		}
	}
	if m.Symmetric {
		return halfAbove(max(hi, -lo) / 7.5), 8
	}
	scale = halfAbove((hi - lo) / 15)
	if scale == 0 || scale >= halfInf {
		return scale, 0
	}
	return scale, int(math.RoundToEven(float64(-lo / halfValue(scale))))
}

// halfInf is the f16 pattern of infinity; those of positive finite values are below.
const halfInf = 0x7c00

// halfAbove returns the smallest f16 that is at least v ≥ 0.
func halfAbove(v float32) uint16 {
	var h [1]uint16
	kernel.F32ToF16(h[:], []float32{v})
	if halfValue(h[0]) < v {
		h[0]++ // patterns of positive values are in the order of the values
	}
	return h[0]
}

func halfValue(h uint16) float32 {
	var v [1]float32
	kernel.F16ToF32(v[:], []uint16{h})
	return v[0]
}
