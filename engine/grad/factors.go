package grad

import (
	"fmt"

	"tare/engine/tensor/kernel"
)

// Factors are what one use of a layer's parameter has its gradient made of, seen by
// Tape.Watch in the backward pass: the gradient of W is Scale·DYᵀ X, a sum over rows
// of outer products, and so a sum over the samples that the rows belong to. (Goodfellow
// 2015, arXiv:1510.01799.)
//
// Watched are the parameters that train in Linear, AddLinear, AddBias and ungrouped
// convolutions. Weights of norms, embeddings and values made by Use are not. A
// parameter used several times is seen as often; its sample's gradient is their sum.
// While Tape.Watch is set, a chunked loss holds all logits, so that every use has all
// rows, and a convolution its patches.
type Factors struct {
	Param  *Param
	X      []float32 // [Rows, XCols]: the input, of it the columns that train; none for a bias
	DY     []float32 // [Rows, DYCols]: the gradient of the output
	Rows   int
	XCols  int
	DYCols int
	Scale  float32
}

func (tp *Tape) watch(f Factors) {
	if err := tp.Watch(f); err != nil && tp.err == nil {
		tp.err = fmt.Errorf("grad: %s: %w", f.Param.Name, err)
	}
}

// Split returns the factors of each sequence by itself, which share f's memory. The
// rows are those of the sequences, or as many for each of them: one where a layer
// classifies, all pixels where it convolves an image.
func (f Factors) Split(seqs Sequences) ([]Factors, error) {
	n := len(seqs.Lengths)
	if f.Rows != seqs.Rows() && (n == 0 || f.Rows%n != 0) {
		return nil, fmt.Errorf("grad: %s: %d rows divide neither as sequences of %d rows nor evenly among %d", f.Param.Name, f.Rows, seqs.Rows(), n)
	}
	parts, at := make([]Factors, n), 0
	for i, rows := range seqs.Lengths {
		if f.Rows != seqs.Rows() {
			rows = f.Rows / n
		}
		p := f
		p.Rows = rows
		p.X, p.DY = f.X[at*f.XCols:(at+rows)*f.XCols], f.DY[at*f.DYCols:(at+rows)*f.DYCols]
		parts[i] = p
		at += rows
	}
	return parts, nil
}

// Gradient writes the gradient of the trained part, of length PartLen.
func (f Factors) Gradient(dst []float32) {
	clear(dst)
	switch kind := f.Param.Part.Kind; {
	case f.X == nil:
		f.bias(dst)
	case f.Rows == 0:
	case kind == Entries:
		for i, at := range f.Param.Part.Index {
			for r := range f.Rows {
				dst[i] += f.Scale * f.DY[r*f.DYCols+at/f.XCols] * f.X[r*f.XCols+at%f.XCols]
			}
		}
	default:
		dy, out := f.rows()
		kernel.Gemm(dst, f.XCols, out, f.XCols, f.Rows, dense(dy, out, true), dense(f.X, f.XCols, false), kernel.GemmOptions{Alpha: f.Scale})
	}
}

// bias writes Σ dy over rows at the entries that train.
func (f Factors) bias(dst []float32) {
	for r := range f.Rows {
		dy := f.DY[r*f.DYCols : (r+1)*f.DYCols]
		if f.Param.Part.Kind == All {
			kernel.Axpy(f.Scale, dy, dst)
			continue
		}
		for i, at := range f.Param.Part.Index {
			dst[i] += f.Scale * dy[at]
		}
	}
}

// rows returns the columns of DY whose row of W trains, and their number.
func (f Factors) rows() ([]float32, int) {
	if f.Param.Part.Kind != Rows {
		return f.DY, f.DYCols
	}
	index := f.Param.Part.Index
	dy := make([]float32, f.Rows*len(index))
	gatherColumns(dy, f.DY, f.Rows, f.DYCols, index)
	return dy, len(index)
}

// SquaredNorm returns ‖Gradient‖², without forming it where the rows are few:
//
//	‖Σ_t dy_t x_tᵀ‖² = Σ_tu ⟨dy_t, dy_u⟩ ⟨x_t, x_u⟩
func (f Factors) SquaredNorm() float64 {
	if f.Rows == 0 {
		return 0
	}
	if f.X == nil || f.Param.Part.Kind == Entries || f.Rows*(f.XCols+f.DYCols) > f.XCols*f.DYCols {
		g := make([]float32, f.Param.PartLen())
		f.Gradient(g)
		return innerProduct(g, g)
	}
	dy, out := f.rows()
	s := float64(f.Scale)
	return s * s * innerProduct(gram(dy, f.Rows, out), gram(f.X, f.Rows, f.XCols))
}

// gram returns the inner products of the rows of x [n, cols].
func gram(x []float32, n, cols int) []float32 {
	g := make([]float32, n*n)
	kernel.Gemm(g, n, n, n, cols, dense(x, cols, false), dense(x, cols, true), kernel.GemmOptions{})
	return g
}

func innerProduct(x, y []float32) (s float64) {
	for i, v := range x {
		s += float64(v) * float64(y[i])
	}
	return s
}
