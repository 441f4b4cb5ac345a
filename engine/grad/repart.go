package grad

// positions calls f with the flat row-major position of every entry of the part, in the
// part's order, which is a rising one.
func (p *Param) positions(part Part, f func(at int)) {
	rows, cols := p.rowsCols()
	switch part.Kind {
	case All:
		for at := range rows * cols {
			f(at)
		}
	case Rows:
		for _, r := range part.Index {
			for c := range cols {
				f(r*cols + c)
			}
		}
	case Columns:
		for r := range rows {
			for _, c := range part.Index {
				f(r*cols + c)
			}
		}
	case Entries:
		for _, at := range part.Index {
			f(at)
		}
	}
}

// Flat returns the flat row-major positions of the trained entries, in rising order.
func (p *Param) Flat() []int {
	index := make([]int, 0, p.PartLen())
	p.positions(p.Part, func(at int) { index = append(index, at) })
	return index
}

// Carry brings values that belong to another part of p into the order of the part that
// trains now: dst, of length PartLen, gets src's value where an entry is in both parts
// and 0 where it is new.
func (p *Param) Carry(dst, src []float32, from Part) {
	index, i := p.Flat(), 0
	k := 0
	p.positions(from, func(at int) {
		for i < len(index) && index[i] < at {
			dst[i] = 0
			i++
		}
		if i < len(index) && index[i] == at {
			dst[i] = src[k]
			i++
		}
		k++
	})
	clear(dst[i:])
}
