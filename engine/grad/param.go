package grad

import (
	"fmt"
	"math"
	"sort"

	"tare/engine/tensor"
	"tare/engine/tensor/kernel"
)

// PartKind says which entries of a parameter train.
type PartKind uint8

// The parts of a parameter that can train. The gradient of a part, and hence the
// optimizer's state for it, has the shape in brackets.
const (
	None    PartKind = iota // frozen: no gradient
	All                     // every entry [as the parameter]
	Rows                    // the rows in Index [len(Index), cols]
	Columns                 // the columns in Index [rows, len(Index)]
	Entries                 // the flat row-major positions in Index [len(Index)]
)

// Part is the piece of a parameter that trains. Index holds distinct positions
// in rising order for Rows, Columns and Entries, and is nil otherwise.
type Part struct {
	Kind  PartKind
	Index []int
}

// Whole is the part that trains everything.
var Whole = Part{Kind: All}

// RowsOf, ColumnsOf and EntriesOf return the part at the given positions, sorted.
func RowsOf(index []int) Part { return Part{Rows, sorted(index)} }

// ColumnsOf returns the part made of the given columns.
func ColumnsOf(index []int) Part { return Part{Columns, sorted(index)} }

// EntriesOf returns the part made of the given flat positions.
func EntriesOf(index []int) Part { return Part{Entries, sorted(index)} }

func sorted(index []int) []int {
	s := append([]int(nil), index...)
	sort.Ints(s)
	return s
}

// Param is a named tensor of a model, whole or partly trained. Name is the
// tensor's name in the checkpoint, or the adapter's own under the layer's name.
// A trained parameter is f32, or bf16 where the optimizer knows how to round; a frozen
// one may have any storage. Gradients are f32 always.
//
// A Param belongs to one tape at a time.
type Param struct {
	Name  string
	Value *tensor.Tensor
	Part  Part
	// Decay is false for parameters that weight decay leaves alone (norms, biases).
	Decay bool
	// Int8 says that a tape's Int8 holds for this matrix as well, while it is frozen: a
	// copy in 8 bits is made when it is first wanted, and the values must not change
	// after that. It is for the head of a model whose layers are packed.
	Int8 bool

	bytes *kernel.Bytes // that copy
	uses  int           // consumers recorded on the tape whose backward has not run
	grad  []float32     // the part's gradient while it gathers
}

// NewParam returns a frozen parameter; set Part to train it.
func NewParam(name string, value *tensor.Tensor) *Param {
	return &Param{Name: name, Value: value, Decay: len(value.Shape()) > 1}
}

// InBytes returns the copy of p in 8 bits that products without a gradient use where
// their tape's Int8 is on, or nil where they use p itself.
func (p *Param) InBytes() *kernel.Bytes {
	if !p.Int8 || p.Trains() || !kernel.HasBytes() {
		return nil
	}
	if p.bytes == nil {
		rows, cols := p.rowsCols()
		if p.bytes = kernel.NewBytes(rows, cols, p.Value.Operand(false)); p.bytes == nil {
			p.Int8 = false
		}
	}
	return p.bytes
}

// Trains reports whether any entry of p trains.
func (p *Param) Trains() bool { return p.Part.Kind != None }

// rowsCols returns the parameter as a matrix: all but the last dimension are rows.
func (p *Param) rowsCols() (int, int) {
	shape := p.Value.Shape()
	cols := 1
	if len(shape) > 0 {
		cols = shape[len(shape)-1]
	}
	return p.Value.Len() / max(cols, 1), cols
}

// PartShape returns the shape of the trained part, the shape of its gradient.
func (p *Param) PartShape() []int { return p.appendShape(make([]int, 0, 4)) } // inlined, so that it may stay on the caller's stack

func (p *Param) appendShape(dims []int) []int {
	rows, cols := p.rowsCols()
	switch p.Part.Kind {
	case All:
		return append(dims, p.Value.Shape()...)
	case Rows:
		return append(dims, len(p.Part.Index), cols)
	case Columns:
		return append(dims, rows, len(p.Part.Index))
	case Entries:
		return append(dims, len(p.Part.Index))
	}
	return append(dims, 0)
}

// PartLen returns how many entries of p train.
func (p *Param) PartLen() int {
	if p.Part.Kind == None {
		return 0
	}
	n := 1
	for _, d := range p.PartShape() {
		n *= d
	}
	return n
}

// Check reports a part that does not fit the parameter.
func (p *Param) Check() error {
	rows, cols := p.rowsCols()
	limit := map[PartKind]int{Rows: rows, Columns: cols, Entries: rows * cols}[p.Part.Kind]
	for i, at := range p.Part.Index {
		if at < 0 || at >= limit {
			return fmt.Errorf("grad: %s: trained position %d is outside [0, %d)", p.Name, at, limit)
		}
		if i > 0 && at <= p.Part.Index[i-1] {
			return fmt.Errorf("grad: %s: trained position %d is repeated or out of order", p.Name, at)
		}
	}
	if p.Trains() && p.Value.ReadOnly() {
		return fmt.Errorf("grad: %s: trains, but lies in a mapped file; load it as f32", p.Name)
	}
	if d := p.Value.DType(); p.Trains() && d != tensor.F32 && d != tensor.BF16 {
		return fmt.Errorf("grad: %s: trains in %s, but only f32 and bf16 parameters train; convert it first", p.Name, d)
	}
	return nil
}

// Gather copies the trained part's values into dst, of length PartLen.
func (p *Param) Gather(dst []float32) {
	switch {
	case p.Part.Kind == All:
		must(p.Value.ReadF32(dst, 0))
	case p.Value.DType() == tensor.BF16:
		value, i := p.Value.U16(), 0
		p.positions(p.Part, func(at int) {
			dst[i] = math.Float32frombits(uint32(value[at]) << 16)
			i++
		})
	default:
		p.movePart(dst, func(part, value *float32) { *part = *value })
	}
}

// Scatter writes src, of length PartLen, into the trained part, rounded to the nearest
// where that is stored in bf16.
func (p *Param) Scatter(src []float32) {
	switch {
	case p.Part.Kind == All:
		must(p.Value.WriteF32(src, 0))
	case p.Value.DType() == tensor.BF16:
		value, i := p.Value.U16(), 0
		p.positions(p.Part, func(at int) {
			kernel.F32ToBF16(value[at:at+1], src[i:i+1])
			i++
		})
	default:
		p.movePart(src, func(part, value *float32) { *value = *part })
	}
}

// must is for moves whose storage and length Check has let pass.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

func (p *Param) movePart(part []float32, move func(part, value *float32)) {
	value := p.Value.F32()
	rows, cols := p.rowsCols()
	switch p.Part.Kind {
	case Rows:
		for i, r := range p.Part.Index {
			for c := range cols {
				move(&part[i*cols+c], &value[r*cols+c])
			}
		}
	case Columns:
		n := len(p.Part.Index)
		for r := range rows {
			for i, c := range p.Part.Index {
				move(&part[r*n+i], &value[r*cols+c])
			}
		}
	case Entries:
		for i, at := range p.Part.Index {
			move(&part[i], &value[at])
		}
	}
}
