package merge

import (
	"fmt"

	"tare/engine/tensor"
	"tare/engine/tensor/kernel"
)

// view is a tensor as a model gives it: as it is stored, under an adapter, or with rows
// in another order.
type view interface {
	ReadF32(dst []float32, off int) error
}

// view opens a version of a tensor, given those of the job's other models for the rows
// that it borrows.
func (v *version) view(of map[*version]view) (view, error) {
	if v.rows == nil {
		return v.own()
	}
	a := &alignedView{aligned: v.rows, width: 1}
	if len(v.info.Shape) > 1 {
		a.width = size(v.info.Shape[1:])
	}
	for _, donor := range v.rows.donors {
		if of[donor] == nil {
			own, err := donor.own()
			if err != nil {
				return nil, err
			}
			of[donor] = own
		}
		a.views = append(a.views, of[donor])
	}
	return a, a.pad()
}

// own opens the tensor without regard to the order of rows.
func (v *version) own() (view, error) {
	t, err := v.in.Tensor(v.tensor)
	if err != nil {
		return nil, fmt.Errorf("merge: model %s: %w", v.in.name, err)
	}
	if v.in.adapter == nil {
		return t, nil
	}
	return v.in.adapter.over(v.tensor, t)
}

// direct returns the tensor's values where a view is a tensor stored as f32.
func direct(v view) []float32 {
	if t, ok := v.(*tensor.Tensor); ok && t.DType() == tensor.F32 {
		return t.F32()
	}
	return nil
}

// lowRank is W + s L R: a tensor under an adapter, with L [rows, r] and R [r, columns].
type lowRank struct {
	w           view
	left, right []float32
	rank, width int
	scale       float32
}

// ReadF32 implements view: the product row by row, then scaled, then added.
func (l *lowRank) ReadF32(dst []float32, off int) error {
	if err := l.w.ReadF32(dst, off); err != nil {
		return err
	}
	change := make([]float32, min(l.width, len(dst)))
	for at := 0; at < len(dst); {
		row, column := (off+at)/l.width, (off+at)%l.width
		n := min(l.width-column, len(dst)-at)
		c := change[:n]
		clear(c)
		for k := range l.rank {
			kernel.Axpy(l.left[row*l.rank+k], l.right[k*l.width+column:][:n], c)
		}
		kernel.Axpy(l.scale, c, dst[at:at+n])
		at += n
	}
	return nil
}

// alignedView gives the rows of embeddings in the order of the merged vocabulary.
type alignedView struct {
	*aligned
	views []view // by donor
	width int
	mean  []float32 // of all rows, for rows beyond the vocabulary
}

// ReadF32 implements view.
func (a *alignedView) ReadF32(dst []float32, off int) error {
	for at := 0; at < len(dst); {
		row, column := (off+at)/a.width, (off+at)%a.width
		n := min(a.width-column, len(dst)-at)
		if err := a.row(dst[at:at+n], row, column); err != nil {
			return err
		}
		at += n
	}
	return nil
}

// row reads a part of one row: the model's own, the mean of those of its donors, or
// zeros.
func (a *alignedView) row(dst []float32, row, column int) error {
	if row >= len(a.own) {
		copy(dst, a.mean[column:])
		return nil
	}
	if own := a.own[row]; own >= 0 {
		return a.views[a.self].ReadF32(dst, int(own)*a.width+column)
	}
	borrowed := a.borrowed[row]
	clear(dst)
	if len(borrowed) == 0 {
		return nil
	}
	one := make([]float32, len(dst))
	for _, b := range borrowed {
		if err := a.views[b.donor].ReadF32(one, b.row*a.width+column); err != nil {
			return err
		}
		kernel.Add(dst, dst, one)
	}
	if n := float32(len(borrowed)); n > 1 {
		for i := range dst {
			dst[i] /= n
		}
	}
	return nil
}

// pad finds the mean row where rows beyond the vocabulary are asked for.
func (a *alignedView) pad() error {
	if a.rows <= len(a.own) {
		return nil
	}
	sum, row := make([]float64, a.width), make([]float32, a.width)
	for r := range a.own {
		if err := a.row(row, r, 0); err != nil {
			return err
		}
		for i, x := range row {
			sum[i] += float64(x)
		}
	}
	a.mean = make([]float32, a.width)
	for i := range sum {
		a.mean[i] = float32(sum[i] / float64(len(a.own)))
	}
	return nil
}
