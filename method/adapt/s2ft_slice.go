package adapt

import (
	"fmt"
	"slices"
	"sort"

	"tare/engine/grad"
	"tare/engine/nn"
	"tare/engine/tensor"
	"tare/engine/train"
)

// slice is S²FT's hold on a layer: columns, or rows, that train.
type slice struct {
	layer *nn.Linear
	found nn.Weight // as found
	c     *coupling
	rows  bool
	index []int       // what trains, in the checkpoint's order, rising
	place []int       // while arranged: where in storage each of index stands
	p     *grad.Param // the whole of W, of which a part trains; or the columns held apart
	was   *grad.Param // the slice's first values, in the order of index
}

// train makes the given columns or rows train.
func (s *slice) train(index []int) error {
	s.index = slices.Sorted(slices.Values(index))
	var inner nn.Weight
	switch d, ok := s.found.(nn.Dense); {
	case ok:
		if err := makeTrainable(d.P); err != nil {
			return err
		}
		s.p, inner = d.P, d
		s.p.Part = s.part(s.index)
	case s.rows:
		return fmt.Errorf("adapt: s2ft: rows of layer %s cannot train, which is held as %T; load the base unpacked or leave the layer out of the targets", s.layer.Name, s.found)
	default:
		split, ok := s.found.(nn.ColumnSplitter)
		if !ok {
			return fmt.Errorf("adapt: s2ft: layer %s is held as %T, whose columns cannot be told apart", s.layer.Name, s.found)
		}
		rest, columns, err := split.SplitColumns(s.index)
		if err != nil {
			return err
		}
		s.p = grad.NewParam(s.layer.Name+".s2ft", columns)
		s.p.Part = grad.Whole
		inner = &splitWeight{rest: rest, p: s.p, index: s.index}
	}
	s.was = grad.NewParam(s.layer.Name+".s2ft_base", tensor.FromF32(s.values(), s.shape()...))
	s.layer.Weight = &sliceWeight{inner, s.was}
	return nil
}

func (s *slice) part(index []int) grad.Part {
	if s.rows {
		return grad.RowsOf(index)
	}
	return grad.ColumnsOf(index)
}

// shape returns the slice's: [out, k] for columns, [k, in] for rows.
func (s *slice) shape() []int {
	out, in := s.found.Dims()
	if s.rows {
		return []int{len(s.index), in}
	}
	return []int{out, len(s.index)}
}

// at returns where in storage, as Gather orders it, entry i of the slice stands.
func (s *slice) at(i int) int {
	if s.place == nil {
		return i
	}
	k := len(s.index)
	if s.rows {
		in := s.p.PartLen() / k
		return s.place[i/in]*in + i%in
	}
	return i/k*k + s.place[i%k]
}

// values returns the slice as it is now, in the order of index.
func (s *slice) values() []float32 {
	stored := make([]float32, s.p.PartLen())
	s.p.Gather(stored)
	v := make([]float32, len(stored))
	for i := range v {
		v[i] = stored[s.at(i)]
	}
	return v
}

// setValues writes the slice.
func (s *slice) setValues(v []float32) {
	stored := make([]float32, len(v))
	for i := range v {
		stored[s.at(i)] = v[i]
	}
	s.p.Scatter(stored)
}

func (s *slice) Params() []*grad.Param {
	if s.p == nil {
		return nil
	}
	return []*grad.Param{s.p}
}

// The tensors of a file.
const (
	sliceDelta = "s2ft_delta"   // ΔW of the slice: [out, k] for columns, [k, in] for rows
	sliceIndex = "s2ft_indices" // which columns or rows
)

func (s *slice) State() []Named {
	if s.p == nil {
		return []Named{{sliceDelta, tensor.New(0)}, {sliceIndex, positionsOf(nil)}}
	}
	delta := tensor.FromF32(s.values(), s.shape()...)
	for i, v := range s.was.Value.F32() {
		delta.F32()[i] -= v
	}
	return []Named{{sliceDelta, delta}, {sliceIndex, positionsOf(s.index)}}
}

// Restore makes a file's slice train, where it stands.
func (s *slice) Restore(state map[string]*tensor.Tensor) error {
	out, in := s.found.Dims()
	limit := in
	if s.rows {
		limit = out
	}
	index, err := positions(state, sliceIndex, limit)
	if err != nil {
		return fmt.Errorf("adapt: layer %s: %w", s.layer.Name, err)
	}
	if s.p != nil {
		s.c.settle()
		s.setValues(s.was.Value.F32())
	}
	s.c.order = nil
	if err := s.train(index); err != nil {
		return err
	}
	delta := tensor.New(s.shape()...)
	if err := restore(delta, state, sliceDelta); err != nil {
		return err
	}
	for i, v := range s.was.Value.F32() {
		delta.F32()[i] += v
	}
	s.setValues(delta.F32())
	return nil
}

// Unmerge writes the slice's first values into w.
func (s *slice) Unmerge(w *tensor.Tensor) error {
	to := &grad.Param{Value: w, Part: s.part(s.index)}
	to.Scatter(s.was.Value.F32())
	return nil
}

// Settle implements Settler.
func (s *slice) Settle() { s.c.settle() }

// sliceWeight is a weight of which a slice trains, with the slice's first values.
type sliceWeight struct {
	nn.Weight
	was *grad.Param
}

func (w *sliceWeight) Params() []*grad.Param { return append(w.Weight.Params(), w.was) }

// Hooks implements Hooked: what trains is brought to the front before training and put
// back after the last step.
func (o *S2FT) Hooks(a *Adapter, _ Setup) []any {
	for _, c := range a.couplings() {
		c.arrange()
	}
	return []any{settling{a}}
}

type settling struct{ a *Adapter }

// EndStep implements train.StepEnder.
func (h settling) EndStep(l *train.Loop) error {
	if l.Step >= l.Options.Steps {
		h.a.settle()
	}
	return nil
}

// arrange permutes the coupled layers so that what trains comes first. It does nothing
// where a layer's storage cannot be written.
func (c *coupling) arrange() {
	if c.arranged || c.order == nil {
		return
	}
	for _, l := range append([]*nn.Linear{c.columns}, c.rows...) {
		if _, err := denseOf(l); err != nil || l.Bias != nil && (l.Bias.Value.DType() != tensor.F32 || l.Bias.Value.ReadOnly()) {
			return
		}
	}
	c.permute(func(to, from int) (int, int) { return to, from })
	c.arranged = true
	for _, s := range c.holds {
		s.place = inverse(c.chosen(s.rows), s.index)
		s.p.Part = s.part(upTo(len(s.index)))
	}
}

// settle undoes arrange.
func (c *coupling) settle() {
	if !c.arranged {
		return
	}
	c.permute(func(to, from int) (int, int) { return from, to })
	c.arranged = false
	for _, s := range c.holds {
		s.place = nil
		s.p.Part = s.part(s.index)
	}
}

func upTo(n int) []int {
	index := make([]int, n)
	for i := range index {
		index[i] = i
	}
	return index
}

// inverse returns, for each of index, where in order it stands.
func inverse(order, index []int) []int {
	place := make([]int, len(index))
	for at, x := range order {
		place[sort.SearchInts(index, x)] = at
	}
	return place
}

// permute moves the heads of all coupled layers into the order, or back: way turns
// (place in the order, place in the checkpoint) into (to, from).
func (c *coupling) permute(way func(to, from int) (int, int)) {
	d, _ := denseOf(c.columns)
	columns, in := spread(c.order, c.width), c.heads*c.width
	old := make([]float32, in)
	for row := d.P.Value.F32(); len(row) > 0; row = row[in:] {
		copy(old, row)
		for at, x := range columns {
			to, from := way(at, x)
			row[to] = old[from]
		}
	}
	for _, l := range c.rows {
		d, _ := denseOf(l)
		out, in := d.Dims()
		rows := spread(c.order, c.width)
		if out != len(rows) {
			rows = spread(c.groupOrder(), c.width)
		}
		permuteRows(d.P.Value.F32(), in, rows, way)
		if l.Bias != nil {
			permuteRows(l.Bias.Value.F32(), 1, rows, way)
		}
	}
}

// permuteRows moves rows of w in place, cycle by cycle: a copy of each matrix would be
// as much garbage as the model.
func permuteRows(w []float32, in int, rows []int, way func(to, from int) (int, int)) {
	source := make([]int, len(rows)) // of each row; −1 once it is there
	for at, x := range rows {
		to, from := way(at, x)
		source[to] = from
	}
	row := func(r int) []float32 { return w[r*in : (r+1)*in] }
	held := make([]float32, in)
	for first, from := range source {
		if from < 0 {
			continue
		}
		copy(held, row(first))
		to := first
		for source[to] != first {
			copy(row(to), row(source[to]))
			to, source[to] = source[to], -1
		}
		copy(row(to), held)
		source[to] = -1
	}
}
