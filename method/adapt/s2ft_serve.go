package adapt

import (
	"fmt"
	"slices"
	"strings"

	"tare/engine/checkpoint"
	"tare/engine/grad"
	"tare/engine/nn"
	"tare/engine/tensor"
)

// Slices is an S²FT adapter apart from any model: ΔW of some columns, or rows, of some
// layers. It can be added to a model and taken out again, or served beside others.
type Slices struct {
	Name  string // its folder
	parts map[string]*part
	fused []fused
}

// part is ΔW of one layer: D [out, k] and columns, or D [k, in] and rows.
type part struct {
	d     *tensor.Tensor
	index []int
	rows  bool
}

// fused is a slice that was added, with what stood there before.
type fused struct {
	p   *grad.Param
	was []float32
}

// OpenSlices reads the adapter folder that [Adapter.Save] wrote, for a model with these
// layers.
func OpenSlices(dir string, m Model) (*Slices, error) {
	file, err := checkpoint.OpenAdapter(dir)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if kind := file.Config["peft_type"]; kind != "S2FT" {
		return nil, fmt.Errorf("adapt: %s: peft_type is %v, want S2FT", dir, kind)
	}
	s := &Slices{Name: dir, parts: map[string]*part{}}
	for _, l := range m.Linears() {
		state := map[string]*tensor.Tensor{}
		for _, name := range []string{sliceDelta, sliceIndex} {
			if _, ok := file.Info(peftPrefix + l.Name + "." + name); ok {
				t, err := file.Tensor(peftPrefix + l.Name + "." + name)
				if err != nil {
					return nil, err
				}
				state[name] = t
			}
		}
		if len(state) == 0 {
			continue
		}
		if s.parts[l.Name], err = partOf(l, state); err != nil {
			return nil, fmt.Errorf("adapt: %s: layer %s: %w", dir, l.Name, err)
		}
	}
	if n := len(file.Names()); n != 2*len(s.parts) {
		var left []string
		for _, name := range file.Names() {
			layer := strings.TrimPrefix(name[:max(0, strings.LastIndexByte(name, '.'))], peftPrefix)
			if s.parts[layer] == nil {
				left = append(left, name)
			}
		}
		return nil, fmt.Errorf("adapt: %s: %d of %d tensors belong to no layer of the model (%s); the adapter was made for another: %w", dir, n-2*len(s.parts), n, strings.Join(left[:min(1, len(left))], ""), checkpoint.ErrFormat)
	}
	return s, nil
}

// partOf reads one layer's slice; rows or columns is what its shape says.
func partOf(l *nn.Linear, state map[string]*tensor.Tensor) (*part, error) {
	out, in := l.Weight.Dims()
	d := state[sliceDelta]
	if d == nil || len(d.Shape()) != 2 {
		return nil, fmt.Errorf("the file has no matrix %s", sliceDelta)
	}
	p := &part{rows: !layerEnds(l.Name)}
	limit := in
	if p.rows {
		limit = out
	}
	var err error
	if p.index, err = positions(state, sliceIndex, limit); err != nil {
		return nil, err
	}
	want := []int{out, len(p.index)}
	if p.rows {
		want = []int{len(p.index), in}
	}
	if !slices.Equal(d.Shape(), want) {
		return nil, fmt.Errorf("%s has shape %v, want %v", sliceDelta, d.Shape(), want)
	}
	p.d, err = d.To(tensor.F32)
	if err == nil {
		p.d = p.d.Clone() // the file is closed
	}
	return p, err
}

// layerEnds reports whether a layer's columns are the heads or channels: whether the
// longest of the names that its own ends with is of such a layer.
func layerEnds(name string) (ends bool) {
	longest := 0
	look := func(names []string, columns bool) {
		for _, end := range names {
			if strings.HasSuffix(name, "."+end) && len(end) > longest {
				longest, ends = len(end), columns
			}
		}
	}
	for _, c := range couplings {
		look(c.columns, true)
		look(c.rows, false)
	}
	return ends
}

// Fuse adds ΔW to the model's dense f32 weights, scattered to its columns and rows.
func (s *Slices) Fuse(m Model) error {
	if s.fused != nil {
		return fmt.Errorf("adapt: %s is fused already", s.Name)
	}
	var to []fused
	var by []*part
	for _, l := range m.Linears() {
		if p := s.parts[l.Name]; p != nil {
			d, err := denseOf(l)
			if err != nil {
				return fmt.Errorf("adapt: fuse %s: %w", s.Name, err)
			}
			w := &grad.Param{Name: d.P.Name, Value: d.P.Value, Part: grad.ColumnsOf(p.index)}
			if p.rows {
				w.Part = grad.RowsOf(p.index)
			}
			to, by = append(to, fused{w, make([]float32, w.PartLen())}), append(by, p)
		}
	}
	for i, f := range to {
		f.p.Gather(f.was)
		now := slices.Clone(f.was)
		for k, v := range by[i].d.F32() {
			now[k] += v
		}
		f.p.Scatter(now)
	}
	s.fused = to
	return nil
}

// Unfuse puts back to the bit what stood there before Fuse. Of several fused adapters
// the last one comes out first.
func (s *Slices) Unfuse() {
	for _, f := range s.fused {
		f.p.Scatter(f.was)
	}
	s.fused = nil
}

// Server is a model that serves several adapters at once.
type Server struct {
	adapters []*Slices
	route    []int // the adapter of each row of the next pass
	layers   []*nn.Linear
	bases    []nn.Weight
}

// Serve puts the adapters on m, whose weights stay as they are:
//
//	y = W x + Σ_a D_a x_a[:, C_a]
//
// where a's product runs over the rows of its own requests only, all together. Row
// after row belongs to the base until Route says otherwise. It is for inference.
func Serve(m Model, adapters ...*Slices) *Server {
	s := &Server{adapters: adapters}
	for _, l := range m.Linears() {
		parts := make([]*part, len(adapters))
		some := false
		for i, a := range adapters {
			parts[i] = a.parts[l.Name]
			some = some || parts[i] != nil
		}
		if some {
			s.layers, s.bases = append(s.layers, l), append(s.bases, l.Weight)
			l.Weight = &servedWeight{l.Weight, s, parts}
		}
	}
	return s
}

// Route says which adapter, −1 for none, each row of the coming passes belongs to: the
// tokens of all sequences one below another.
func (s *Server) Route(adapter []int) error {
	for row, a := range adapter {
		if a < -1 || a >= len(s.adapters) {
			return fmt.Errorf("adapt: serve: row %d is routed to adapter %d of %d", row, a, len(s.adapters))
		}
	}
	s.route = slices.Clone(adapter)
	return nil
}

// Close takes the adapters off.
func (s *Server) Close() {
	for i, l := range s.layers {
		l.Weight = s.bases[i]
	}
	s.layers, s.bases = nil, nil
}

// servedWeight is a Weight to which the slices of several adapters are added.
type servedWeight struct {
	nn.Weight
	server *Server
	parts  []*part // one for each adapter; nil where it has none here
}

func (w *servedWeight) Apply(tp *grad.Tape, x *grad.Value) *grad.Value {
	if tp.Recording() {
		panic("adapt: a model that serves adapters does not train")
	}
	y := w.Weight.Apply(tp, x)
	for a, p := range w.parts {
		if p == nil {
			continue
		}
		var rows []int
		for r := range min(x.Rows, len(w.server.route)) {
			if w.server.route[r] == a {
				rows = append(rows, r)
			}
		}
		if len(rows) > 0 {
			p.add(tp, y, x, rows)
		}
	}
	return y
}

// add adds D x[rows, C] to those rows of y; where D is of rows, D x to those columns.
func (p *part) add(tp *grad.Tape, y, x *grad.Value, rows []int) {
	tp.Scope(func() *grad.Value {
		mine := tp.GatherRows(x, rows)
		if !p.rows {
			mine = tp.Columns(mine, p.index)
		}
		z := tp.MatMul(mine, tp.Const(p.d.F32(), p.d.Dim(0), p.d.Dim(1)), false, true)
		for i, r := range rows {
			row, add := y.Data[r*y.Cols:(r+1)*y.Cols], z.Data[i*z.Cols:(i+1)*z.Cols]
			for j, v := range add {
				if p.rows {
					row[p.index[j]] += v
				} else {
					row[j] += v
				}
			}
		}
		return z
	})
}
