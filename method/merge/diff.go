package merge

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"slices"

	"tare/engine/checkpoint"
	"tare/engine/tensor"
	"tare/engine/tensor/kernel"
)

// DiffOptions says what Diff measures. The zero value will do.
type DiffOptions struct {
	Tolerance float64                              // an entry changed when |Δ| is above it; 0 means 1e-5
	Spectrum  bool                                 // singular values and subspaces of matrices as well
	Rank      int                                  // of the principal subspaces compared, and how many singular values are told; 0 means 8
	MaxSide   int                                  // matrices whose smaller side is larger get no spectrum; 0 means 2048
	Progress  func(done, total int, tensor string) // in tensors
}

// TensorDiff is how one tensor differs between two checkpoints, with Δ = B − A.
type TensorDiff struct {
	Name   string `json:"name"`
	Only   string `json:"only,omitempty"` // "a" or "b" where just one has it; nothing is measured then
	Shape  []int  `json:"shape"`
	ShapeB []int  `json:"shape_b,omitempty"` // where it is another; nothing is measured then
	DTypeA string `json:"dtype_a,omitempty"`
	DTypeB string `json:"dtype_b,omitempty"`

	Changed       float64   `json:"changed"`        // fraction of entries with |Δ| above the tolerance
	ChangedStored float64   `json:"changed_stored"` // fraction that differ at all, both rounded to the narrower stored type
	NormA         float64   `json:"norm_a"`         // ‖A‖
	NormDelta     float64   `json:"norm_delta"`     // ‖Δ‖
	Relative      float64   `json:"relative"`       // ‖Δ‖/‖A‖; 0 where A is zero
	Cosine        float64   `json:"cosine"`         // of A and B; 1 where they are equal, else 0 where one is zero
	MaxDelta      float64   `json:"max_delta"`      // largest |Δ|
	Spectrum      *Spectrum `json:"spectrum,omitempty"`
	Note          string    `json:"note,omitempty"` // why something is not measured
}

// Diff compares two checkpoints tensor by tensor, in the order of a and then what
// only b has. It streams: memory does not grow with the checkpoints, and with the
// spectrum by the square of MaxSide.
func Diff(ctx context.Context, a, b *checkpoint.Folder, o DiffOptions) ([]TensorDiff, error) {
	if o.Tolerance == 0 {
		o.Tolerance = 1e-5
	}
	if o.Rank <= 0 {
		o.Rank = 8
	}
	if o.MaxSide <= 0 {
		o.MaxSide = 2048
	}
	names := slices.Clone(a.Names())
	for _, name := range b.Names() {
		if _, both := a.Info(name); !both {
			names = append(names, name)
		}
	}
	var out []TensorDiff
	for i, name := range names {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("merge: diff stopped before the end: %w", err)
		}
		infoA, inA := a.Info(name)
		infoB, inB := b.Info(name)
		d := TensorDiff{Name: name, Shape: infoA.Shape}
		switch {
		case !inB:
			d.Only, d.DTypeA = "a", infoA.DType.String()
		case !inA:
			d.Only, d.DTypeB, d.Shape = "b", infoB.DType.String(), infoB.Shape
		default:
			d.DTypeA, d.DTypeB = infoA.DType.String(), infoB.DType.String()
			if err := compare(ctx, &d, a, b, o); err != nil {
				return nil, err
			}
		}
		out = append(out, d)
		if o.Progress != nil {
			o.Progress(i+1, len(names), name)
		}
	}
	return out, nil
}

// compare measures a tensor that both have.
func compare(ctx context.Context, d *TensorDiff, fa, fb *checkpoint.Folder, o DiffOptions) error {
	a, err := fa.Tensor(d.Name)
	if err != nil {
		return err
	}
	b, err := fb.Tensor(d.Name)
	if err != nil {
		return err
	}
	switch {
	case !slices.Equal(a.Shape(), b.Shape()):
		d.ShapeB, d.Note = b.Shape(), "shapes differ"
		return nil
	case !a.DType().IsFloat() || !b.DType().IsFloat():
		return compareWhole(d, a, b)
	}
	if err := compareFloats(d, a, b, o.Tolerance); err != nil {
		return err
	}
	if !o.Spectrum || len(d.Shape) != 2 || min(d.Shape[0], d.Shape[1]) < 2 {
		return nil
	}
	if side := min(d.Shape[0], d.Shape[1]); side > o.MaxSide {
		d.Note = fmt.Sprintf("no spectrum: the smaller side is %d, above %d", side, o.MaxSide)
		return nil
	}
	d.Spectrum, err = spectrumOf(ctx, a, b, o.Rank)
	if err != nil {
		return fmt.Errorf("merge: diff: tensor %q: %w", d.Name, err)
	}
	return nil
}

// compareWhole counts the entries of whole numbers that differ.
func compareWhole(d *TensorDiff, a, b *tensor.Tensor) error {
	if a.DType() != b.DType() {
		d.Note = "types do not compare"
		return nil
	}
	size, changed := a.DType().Size(), 0
	x, y := a.Bytes(), b.Bytes()
	for i := 0; i < len(x); i += size {
		if !bytes.Equal(x[i:i+size], y[i:i+size]) {
			changed++
		}
	}
	if a.Len() > 0 {
		d.ChangedStored = float64(changed) / float64(a.Len())
		d.Changed = d.ChangedStored
	}
	d.Note = "whole numbers: only changes are counted"
	return nil
}

// moments are the sums that a range of entries adds to the measures.
type moments struct {
	changed, stored int
	aa, bb, ab, dd  float64
	most            float64
	bad             int  // index of the first NaN or Inf, or -1
	badInB          bool // else in A
}

// compareFloats measures range by range, each alike whatever the threads, and adds
// the ranges in order, so that the same files give the same figures.
func compareFloats(d *TensorDiff, a, b *tensor.Tensor, tolerance float64) error {
	const step = 1 << 16
	n := a.Len()
	parts := make([]moments, (n+step-1)/step)
	kernel.Parallel(len(parts), 1, func(lo, hi int) {
		r := newRanges(a, b, step)
		for i := lo; i < hi; i++ {
			parts[i] = r.measure(i*step, min(n, (i+1)*step), tolerance)
		}
	})
	var sum moments
	for _, p := range parts {
		if p.bad >= 0 {
			where := "first"
			if p.badInB {
				where = "second"
			}
			return fmt.Errorf("merge: diff: %w: tensor %q of the %s checkpoint has NaN or Inf at index %d", checkpoint.ErrNonFinite, d.Name, where, p.bad)
		}
		sum.changed += p.changed
		sum.stored += p.stored
		sum.aa += p.aa
		sum.bb += p.bb
		sum.ab += p.ab
		sum.dd += p.dd
		sum.most = max(sum.most, p.most)
	}
	d.set(sum, n)
	return nil
}

func (d *TensorDiff) set(s moments, n int) {
	d.NormA, d.NormDelta, d.MaxDelta = math.Sqrt(s.aa), math.Sqrt(s.dd), s.most
	if n > 0 {
		d.Changed, d.ChangedStored = float64(s.changed)/float64(n), float64(s.stored)/float64(n)
	}
	if s.aa > 0 {
		d.Relative = d.NormDelta / d.NormA
	}
	switch {
	case s.dd == 0:
		d.Cosine = 1
	case s.aa > 0 && s.bb > 0:
		d.Cosine = s.ab / (math.Sqrt(s.aa) * math.Sqrt(s.bb))
	}
}

// ranges reads matching ranges of two tensors.
type ranges struct {
	a, b   *tensor.Tensor
	x, y   []float32
	narrow *tensor.Tensor // scratch in the narrower stored type; nil where they are one
}

func newRanges(a, b *tensor.Tensor, step int) *ranges {
	r := &ranges{a: a, b: b, x: make([]float32, step), y: make([]float32, step)}
	if a.DType() != b.DType() {
		t := b.DType()
		if a.DType().Size() < t.Size() {
			t = a.DType()
		}
		r.narrow = tensor.NewOf(t, step)
	}
	return r
}

func (r *ranges) measure(lo, hi int, tolerance float64) moments {
	m := moments{bad: -1}
	x, y := r.x[:hi-lo], r.y[:hi-lo]
	if r.a.ReadF32(x, lo) != nil || r.b.ReadF32(y, lo) != nil {
		return m // kinds and ranges were checked before
	}
	for i := range x {
		u, v := float64(x[i]), float64(y[i])
		delta := math.Abs(v - u)
		if math.IsNaN(delta) || math.IsInf(delta, 0) {
			m.bad, m.badInB = lo+i, !math.IsNaN(u) && !math.IsInf(u, 0)
			return m
		}
		if delta > tolerance {
			m.changed++
		}
		m.most = max(m.most, delta)
		m.aa += u * u
		m.bb += v * v
		m.ab += u * v
		m.dd += delta * delta
	}
	r.round(x)
	r.round(y)
	for i := range x {
		if x[i] != y[i] {
			m.stored++
		}
	}
	return m
}

// round takes values through the narrower type.
func (r *ranges) round(v []float32) {
	if r.narrow != nil && r.narrow.WriteF32(v, 0) == nil {
		_ = r.narrow.ReadF32(v, 0) // what was just written reads
	}
}
