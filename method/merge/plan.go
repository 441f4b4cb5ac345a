package merge

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"tare/engine/checkpoint"
	"tare/engine/tensor"
)

// job is one tensor of the merged model.
type job struct {
	name   string
	shape  []int
	n      int
	stored tensor.DType
	copied bool // not floating-point: taken over as it is
	base   *version
	models []*version
	params []Params
	global Params
}

// version is a tensor as one model has it.
type version struct {
	in     *input
	tensor string
	info   checkpoint.Info
	rows   *aligned // the rows of embeddings by the merged vocabulary; nil for as they are
}

// all returns the base's version, where there is one, and the models'.
func (j *job) all() []*version {
	if j.base == nil {
		return j.models
	}
	return append([]*version{j.base}, j.models...)
}

// planned is one tensor before its versions are looked up: its name and its depth, and
// where each source has it.
type planned struct {
	slice *Slice
	name  string
	names []string // by source
	depth float64  // 0 at the slice's first layer, 1 at its last, 0 outside layers
}

// plan lists the merged model's tensors, refuses models that do not match, naming the
// first few differences, and sets the pieces' size.
func (m *merger) plan() error {
	const most = 8
	tensors, err := m.tensors()
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range tensors {
		j, err := m.job(p)
		if err != nil {
			errs = append(errs, err)
		}
		m.jobs = append(m.jobs, j)
	}
	errs = append(errs, m.unplanned(tensors)...)
	if more := len(errs) - most; more > 0 {
		errs = append(errs[:most], fmt.Errorf("merge: %w: %d more differences", ErrMismatch, more))
	}
	m.cut()
	return errors.Join(errs...)
}

// tensors lists the tensors of the merged model.
func (m *merger) tensors() ([]planned, error) {
	r := &m.recipe
	if r.Slices[0].Sources[0].Layers != nil {
		return m.stack()
	}
	s := &r.Slices[0]
	last := map[string]int{}
	for _, name := range m.lead.Names() {
		if stack, layer, ok := layerOf(name); ok {
			last[stack] = max(last[stack], layer)
		}
	}
	var found []planned
	for _, name := range m.lead.Names() {
		p := planned{slice: s, name: name, names: slices.Repeat([]string{name}, len(s.Sources))}
		if stack, layer, ok := layerOf(name); ok {
			p.depth = depth(layer, last[stack]+1)
		}
		found = append(found, p)
	}
	return found, nil
}

// depth returns the place of layer i among n, as mergekit counts: a lone layer lies at
// the end.
func depth(i, n int) float64 {
	if n < 2 {
		return 1
	}
	return float64(i) / float64(n-1)
}

// layers is how a model's tensors lie in layers.
type layers struct {
	stack   string           // what stands before a layer's number
	in      map[int][]string // by layer, what stands behind it
	outside []string
}

// layersOf finds the one stack of layers of a model.
func layersOf(in *input) (layers, error) {
	l := layers{in: map[int][]string{}}
	for _, name := range in.Names() {
		stack, layer, ok := layerOf(name)
		if !ok {
			l.outside = append(l.outside, name)
			continue
		}
		if l.stack == "" {
			l.stack = stack
		}
		if stack != l.stack {
			return l, fmt.Errorf("merge: %w: model %s has layers under %s and %s; only models with one stack of layers can be sliced", ErrMismatch, in.name, l.stack, stack)
		}
		l.in[layer] = append(l.in[layer], behind(name, stack))
	}
	return l, nil
}

// behind cuts the stack and the layer's number off a name.
func behind(name, stack string) string {
	rest := name[len(stack):]
	for i, c := range rest {
		if c == '.' {
			return rest[i:]
		}
	}
	return ""
}

// stack lists the tensors of slices put on one another: what stands before the layers
// comes from the first slice, what stands behind from the last.
func (m *merger) stack() ([]planned, error) {
	r := &m.recipe
	of := map[*input]layers{}
	inputs := make([][]*input, len(r.Slices)) // by slice and source
	for i := range r.Slices {
		for _, s := range r.Slices[i].Sources {
			in, err := m.model(s.Model)
			if err != nil {
				return nil, err
			}
			if _, known := of[in]; !known {
				if of[in], err = layersOf(in); err != nil {
					return nil, err
				}
			}
			if n := len(of[in].in); s.Layers[1] > n {
				return nil, fmt.Errorf("merge: %w: slices[%d]: layer_range [%d, %d] of model %s, which has %d layers", ErrRecipe, i, s.Layers[0], s.Layers[1], s.Model, n)
			}
			inputs[i] = append(inputs[i], in)
		}
	}
	first, last := &r.Slices[0], &r.Slices[len(r.Slices)-1]
	lead, end := of[inputs[0][0]], of[inputs[len(inputs)-1][0]]
	var before, after, middle []planned
	for _, name := range lead.outside {
		if isEmbedding(name) {
			before = append(before, planned{slice: first, name: name, names: slices.Repeat([]string{name}, len(first.Sources))})
		}
	}
	for _, name := range end.outside {
		if !isEmbedding(name) {
			after = append(after, planned{slice: last, name: name, names: slices.Repeat([]string{name}, len(last.Sources))})
		}
	}
	layer := 0
	for i := range r.Slices {
		s := &r.Slices[i]
		from := s.Sources[0].Layers
		n := from[1] - from[0]
		for at := range n {
			for _, suffix := range of[inputs[i][0]].in[from[0]+at] {
				p := planned{slice: s, name: fmt.Sprintf("%s%d%s", lead.stack, layer, suffix), depth: depth(at, n)}
				for k, source := range s.Sources {
					p.names = append(p.names, fmt.Sprintf("%s%d%s", of[inputs[i][k]].stack, source.Layers[0]+at, suffix))
				}
				middle = append(middle, p)
			}
			layer++
		}
	}
	return slices.Concat(before, middle, after), nil
}

// job looks up the versions of one tensor and its parameters.
func (m *merger) job(p planned) (job, error) {
	r := &m.recipe
	j := job{name: p.name, n: 1}
	var first *version
	var sources []*Source
	var names []string
	for i := range p.slice.Sources {
		s := &p.slice.Sources[i]
		in, err := m.model(s.Model)
		if err != nil {
			return j, err
		}
		v := &version{in: in, tensor: p.names[i]}
		var ok bool
		if v.info, ok = in.Info(v.tensor); !ok {
			return j, fmt.Errorf("merge: %w: model %s lacks tensor %q, which %s has", ErrMismatch, in.name, v.tensor, m.lead.name)
		}
		if first == nil {
			first = v
		} else if err := m.matches(first, v); err != nil {
			return j, err
		}
		if r.Method.Base != BaseIsModel && sameModel(s.Model, r.base(p.slice)) {
			j.base = v
			continue
		}
		j.models = append(j.models, v)
		sources, names = append(sources, s), append(names, p.names[i])
	}
	j.shape, j.copied = first.info.Shape, !first.info.DType.IsFloat()
	if m.aligns(j.name) {
		j.shape = m.alignRows(&j, r.base(p.slice))
	}
	j.n = size(j.shape)
	j.stored = first.info.DType
	if j.copied {
		return j, nil
	}
	j.stored = r.storedAs(j.all())
	var err error
	j.params, j.global, err = r.params(p.slice, p.name, sources, names, p.depth)
	return j, err
}

// matches refuses versions of a tensor that cannot be merged.
func (m *merger) matches(a, b *version) error {
	kinds := a.info.DType.IsFloat() == b.info.DType.IsFloat()
	x, y := a.info.Shape, b.info.Shape
	if m.aligns(a.tensor) && len(x) == len(y) && len(x) > 0 {
		x, y = x[1:], y[1:]
	}
	switch {
	case !slices.Equal(x, y):
		advice := ""
		if isVocabulary(a.tensor) && len(x) == len(y) && slices.Equal(x[1:], y[1:]) {
			advice = "; the vocabularies differ: add tokenizer_source: base, union or one of the models"
		}
		return fmt.Errorf("merge: %w: tensor %q is %v in %s and %v in %s%s", ErrMismatch, a.tensor, a.info.Shape, a.in.name, b.info.Shape, b.in.name, advice)
	case !kinds:
		return fmt.Errorf("merge: %w: tensor %q is %s in %s and %s in %s", ErrMismatch, a.tensor, a.info.DType, a.in.name, b.info.DType, b.in.name)
	case !a.info.DType.IsFloat():
		return sameBytes(a, b)
	}
	return nil
}

// sameBytes refuses whole numbers that differ: there is no merging them.
func sameBytes(a, b *version) error {
	x, err := a.in.Tensor(a.tensor)
	if err != nil {
		return err
	}
	y, err := b.in.Tensor(b.tensor)
	if err != nil {
		return err
	}
	if x.DType() != y.DType() || !bytes.Equal(x.Bytes(), y.Bytes()) {
		return fmt.Errorf("merge: %w: tensor %q is %s, which cannot be merged, and differs between %s and %s",
			ErrMismatch, a.tensor, x.DType(), a.in.name, b.in.name)
	}
	return nil
}

// unplanned lists tensors that a model has and the merged one would lose: all others of
// a whole model, those of the same layers of a slice.
func (m *merger) unplanned(tensors []planned) (errs []error) {
	used := map[string]bool{} // by model and tensor
	inLayer := map[string]bool{}
	layer := func(model, name string) string {
		stack, n, ok := layerOf(name)
		return fmt.Sprint(model, "\x00", stack, n, ok)
	}
	for _, p := range tensors {
		for i, s := range p.slice.Sources {
			used[s.Model+"\x00"+p.names[i]] = true
			inLayer[layer(s.Model, p.names[i])] = true
		}
	}
	whole := m.recipe.Slices[0].Sources[0].Layers == nil
	for i := range m.recipe.Slices {
		for _, s := range m.recipe.Slices[i].Sources {
			in, err := m.model(s.Model)
			if err != nil {
				return []error{err}
			}
			for _, name := range in.Names() {
				_, _, layered := layerOf(name)
				if key := s.Model + "\x00" + name; !used[key] && (whole || layered && inLayer[layer(s.Model, name)]) {
					used[key] = true
					errs = append(errs, fmt.Errorf("merge: %w: model %s lacks tensor %q, which %s has", ErrMismatch, m.lead.name, name, in.name))
				}
			}
		}
	}
	return errs
}

// storedAs returns the type that a tensor is stored as: what the recipe says, else the
// one that its versions share, else f32.
func (r *Recipe) storedAs(versions []*version) tensor.DType {
	for _, name := range []string{r.OutDType, r.DType} {
		if d, err := tensor.ParseDType(name); err == nil {
			return d
		}
	}
	own := versions[0].info.DType
	for _, v := range versions {
		if v.info.DType != own || own == tensor.F64 {
			return tensor.F32 // what it is computed in
		}
	}
	return own
}

// cut sets the size of pieces: as much as the buffers hold, and no less than the method
// can do with.
func (m *merger) cut() {
	largest, least := 0, 1
	for i := range m.jobs {
		j := &m.jobs[i]
		if j.copied {
			continue
		}
		largest = max(largest, j.n)
		switch {
		case m.recipe.Method.Cut == CutRows:
			least = max(least, rowOf(j.shape))
		case m.recipe.Method.Measure != nil:
			least = blockLen
		}
	}
	m.piece = min(largest, max(least, int(m.o.Buffer/m.bytesPerElement())))
}

// bytesPerElement is what one entry of a piece takes: the inputs twice over, as one
// piece is read while another is merged, the result in f32 and as it is stored.
func (m *merger) bytesPerElement() int64 {
	inputs := 1
	for i := range m.jobs {
		inputs = max(inputs, len(m.jobs[i].all()))
	}
	const f32, slots, stored = 4, 2, 2
	return int64(inputs*f32*slots + f32 + stored)
}

// beside forecasts the memory besides the buffers: the program, what is counted and
// summed of a tensor while it is measured, tables of rows, factors of adapters.
func (m *merger) beside() int64 {
	const program, counts = 48 << 20, 24 << 20
	need := int64(program)
	if m.recipe.Method.Measure != nil {
		var most int64
		for i := range m.jobs {
			j := &m.jobs[i]
			inputs, vectors := int64(len(j.all())), int64(1)
			if len(j.shape) > 1 {
				vectors = int64(slices.Max(j.shape))
			}
			most = max(most, vectors*(inputs*inputs*4+inputs*24)+int64(m.piece)/blockLen*inputs*inputs*8)
		}
		need += counts + most
	}
	if m.align != nil {
		need += int64(len(m.opened)*m.align.size) * 256
	}
	for _, in := range m.opened {
		if in.adapter == nil {
			continue
		}
		for _, name := range in.adapter.Names() {
			if info, ok := in.adapter.Info(name); ok {
				need += info.Bytes
			}
		}
	}
	return need
}

// pieces cuts a tensor: between rows where the method asks for it, else at multiples of
// a block where it measures, else anywhere.
func (m *merger) pieces(j *job) func(yield func(piece) bool) {
	step := max(m.piece, 1)
	switch row := rowOf(j.shape); {
	case m.recipe.Method.Cut == CutRows:
		step = max(1, step/max(row, 1)) * max(row, 1)
	case step >= blockLen:
		step = step / blockLen * blockLen
	}
	return func(yield func(piece) bool) {
		for off := 0; off < j.n; off += step {
			if !yield(piece{job: j, off: off, n: min(step, j.n-off)}) {
				return
			}
		}
	}
}

// layerOf cuts model.layers.7.mlp.weight into "model.layers." and 7: the layer is the
// first number among the parts of the name.
func layerOf(name string) (stack string, layer int, ok bool) {
	const most = 6 // digits of a layer's number
	start := 0
	for part := range strings.SplitSeq(name, ".") {
		if n, isNumber := number(part); isNumber && len(part) <= most {
			return name[:start], n, true
		}
		start += len(part) + 1
	}
	return "", 0, false
}

func number(s string) (n int, ok bool) {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, s != ""
}
