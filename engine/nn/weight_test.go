package nn

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"tare/engine/grad"
	"tare/engine/tensor"
	"tare/engine/tensor/kernel"
)

// randomQ4 returns a packed matrix of any codes, zero points and positive scales.
func randomQ4(rng *rand.Rand, rows, cols, group int) *Packed4 {
	q := &kernel.Q4{Rows: rows, Cols: cols, Group: group}
	q.Codes = make([]byte, rows*q.Stride())
	for i := range q.Codes {
		q.Codes[i] = byte(rng.Uint32())
	}
	scales := make([]float32, rows*q.Groups())
	q.Scales, q.Zeros = make([]uint16, len(scales)), make([]uint8, len(scales))
	for i := range scales {
		scales[i] = float32(math.Exp(rng.NormFloat64() - 3))
		q.Zeros[i] = uint8(rng.IntN(16))
	}
	kernel.F32ToF16(q.Scales, scales)
	return &Packed4{Name: "layer", Q: q}
}

func materialize(t *testing.T, w Weight) []float32 {
	t.Helper()
	x, err := Materialize(w)
	if err != nil {
		t.Fatal(err)
	}
	return x.F32()
}

// What is left is zero in the columns that were split off and as it was elsewhere; with
// the columns put back it is the matrix, bit for bit.
func TestSplitColumns(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct{ rows, cols, group int }{{3, 70, 32}, {5, 64, 64}, {2, 33, 32}, {4, 200, 128}, {1, 5, 32}, {7, 256, 64}} {
		w := randomQ4(rng, c.rows, c.cols, c.group)
		if err := w.Q.Check(); err != nil {
			t.Fatal(err)
		}
		all := make([]int, c.cols)
		for i := range all {
			all[i] = i
		}
		some := rng.Perm(c.cols)[:c.cols/3]
		slices.Sort(some)
		for _, index := range [][]int{nil, {0}, {c.cols - 1}, some, all} {
			what := fmt.Sprintf("[%d, %d] by %d, columns %v", c.rows, c.cols, c.group, index)
			before, codes := materialize(t, w), slices.Clone(w.Q.Codes)
			rest, columns, err := w.SplitColumns(index)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(w.Q.Codes, codes) {
				t.Fatalf("%s: the weight itself changed", what)
			}
			if !slices.Equal(columns.Shape(), []int{c.rows, len(index)}) {
				t.Fatalf("%s: the columns are %v", what, columns.Shape())
			}
			got := materialize(t, rest)
			for r := range c.rows {
				for i, col := range index {
					at := &got[r*c.cols+col]
					if math.Float32bits(*at) != 0 {
						t.Errorf("%s: %g is left at row %d, column %d", what, *at, r, col)
					}
					*at = columns.F32()[r*len(index)+i]
				}
			}
			for i := range got {
				if math.Float32bits(got[i]) != math.Float32bits(before[i]) {
					t.Fatalf("%s: entry %d is %g after putting it together again, want %g", what, i, got[i], before[i])
				}
			}
		}
	}
	w := randomQ4(rng, 2, 40, 32)
	for _, index := range [][]int{{-1}, {3, 40}} {
		if _, _, err := w.SplitColumns(index); err == nil || !strings.Contains(err.Error(), "layer") {
			t.Errorf("columns %v of 40: %v", index, err)
		}
	}
}

// A packed entry is (code − zero)·scale, which its Dense gives exactly.
func TestPackedDense(t *testing.T) {
	w := randomQ4(rand.New(rand.NewPCG(3, 4)), 3, 70, 32)
	got := materialize(t, w)
	scale := make([]float32, len(w.Q.Scales))
	kernel.F16ToF32(scale, w.Q.Scales)
	for r := range 3 {
		for c := range 70 {
			code := w.Q.Codes[r*48+c/32*16+c%16] // a row's 70 columns take 3 blocks of 16 bytes
			if c%32 >= 16 {
				code >>= 4
			}
			g := r*3 + c/32
			if want := float32(int(code&15)-int(w.Q.Zeros[g])) * scale[g]; got[r*70+c] != want {
				t.Fatalf("row %d, column %d is %g, want %g", r, c, got[r*70+c], want)
			}
		}
	}
	if w.Bytes() != 3*48+3*3*(2+1) {
		t.Errorf("%d bytes", w.Bytes())
	}
	if err := w.Dense(tensor.New(70, 3)); err == nil || !strings.Contains(err.Error(), "layer") {
		t.Errorf("into another shape: %v", err)
	}
}

// x Wᵀ of a packed weight and its gradient of x, which is dy W, are those of the dense
// matrix in float64; also where the gradient adds to one that is there.
func TestPackedProducts(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for _, c := range []struct{ n, out, in, group int }{{1, 3, 70, 32}, {5, 33, 64, 64}, {17, 20, 200, 128}, {2, 1, 31, 32}} {
		w := randomQ4(rng, c.out, c.in, c.group)
		dense := materialize(t, w)
		x, dy := normals(rng, c.n*c.in), normals(rng, c.n*c.out)
		tp := grad.NewTape(nil)
		leaf := tp.Leaf(x, c.n, c.in)
		y := w.Apply(tp, leaf)
		values := slices.Clone(y.Data)
		// Σ dy·y + ½ Σ x², so that the gradient is dy W + x.
		loss := tp.Add(tp.Sum(tp.Mul(y, tp.Const(dy, c.n, c.out))), tp.Scale(tp.Sum(tp.Mul(leaf, leaf)), 0.5))
		if err := tp.Backward(loss, nil); err != nil {
			t.Fatal(err)
		}
		for r := range c.n {
			for o := range c.out {
				var sum, size float64
				for i := range c.in {
					term := float64(x[r*c.in+i]) * float64(dense[o*c.in+i])
					sum, size = sum+term, size+math.Abs(term)
				}
				checkSum(t, fmt.Sprintf("%v: y[%d, %d]", c, r, o), values[r*c.out+o], sum, size)
			}
			for i := range c.in {
				sum := float64(x[r*c.in+i])
				size := math.Abs(sum)
				for o := range c.out {
					term := float64(dy[r*c.out+o]) * float64(dense[o*c.in+i])
					sum, size = sum+term, size+math.Abs(term)
				}
				checkSum(t, fmt.Sprintf("%v: dx[%d, %d]", c, r, i), leaf.Grad()[r*c.in+i], sum, size)
			}
		}
		if y := w.Apply(tp, tp.Const(x, c.n, c.in)); y.Needs() {
			t.Errorf("%v: a gradient is asked for where nothing trains", c)
		}
		tp.Reset()
	}
}

// With Int8 a packed weight meets rounded rows only where nothing is recorded: an error
// of half a step of 1/127 of a group's largest input there, none where a gradient flows.
func TestInt8LeavesTrainingExact(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	const n, out, in = 3, 20, 200
	w, x := randomQ4(rng, out, in, 64), normals(rng, n*in)
	dense := materialize(t, w)
	plain, rounding := grad.NewTape(nil), grad.NewTape(nil)
	rounding.Int8 = true
	want := slices.Clone(w.Apply(plain, plain.Leaf(x, n, in)).Data)
	if got := w.Apply(rounding, rounding.Leaf(x, n, in)).Data; !slices.Equal(got, want) {
		t.Error("a recorded product is rounded")
	}
	rounding.NoGrad(func() {
		got := w.Apply(rounding, rounding.Const(x, n, in)).Data
		same := 0
		for r := range n {
			for o := range out {
				var bound float64
				for i := range in {
					g := i / 64 * 64
					top := float64(kernel.AbsMax(x[r*in+g : r*in+min(g+64, in)]))
					bound += math.Abs(float64(dense[o*in+i])) * top / 127 / 2
				}
				off := math.Abs(float64(got[r*out+o] - want[r*out+o]))
				if off > bound*1.001 {
					t.Errorf("y[%d, %d] is off by %g, at most %g is possible", r, o, off, bound)
				}
				if off == 0 {
					same++
				}
			}
		}
		if same > n*out/2 {
			t.Error("nothing is rounded")
		}
	})
}

// A dense matrix is read in 8 bits where it and the tape say so and nothing trains: half a
// step of either side's groups is the most that a product's terms are off.
func TestInt8OfDenseMatrices(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	const n, out, in = 3, 20, 200
	values, err := tensor.FromF32(normals(rng, out*in), out, in).To(tensor.BF16)
	if err != nil {
		t.Fatal(err)
	}
	w, x := NewDense("head.weight", values), normals(rng, n*in)
	dense := materialize(t, w)
	tp := grad.NewTape(nil)
	product := func() (y []float32) {
		tp.NoGrad(func() { y = slices.Clone(w.Apply(tp, tp.Const(x, n, in)).Data) })
		return y
	}
	want := product()
	w.P.Int8 = true
	if !slices.Equal(product(), want) {
		t.Error("a tape that is exact rounds")
	}
	tp.Int8 = true
	if got := w.Apply(tp, tp.Leaf(x, n, in)).Data; !slices.Equal(got, want) {
		t.Error("a recorded product is rounded")
	}
	tp.Reset()
	w.P.Part = grad.Whole
	if !slices.Equal(product(), want) {
		t.Error("a matrix that trains is rounded")
	}
	w.P.Part = grad.Part{}
	got := product()
	if slices.Equal(got, want) == kernel.HasBytes() {
		t.Errorf("rounded %v, want %v", !slices.Equal(got, want), kernel.HasBytes())
	}
	top := func(v []float32, i int) float64 { return float64(kernel.AbsMax(v[i/64*64 : min(in, i/64*64+64)])) }
	for r := range n {
		for o := range out {
			var bound float64
			row, line := x[r*in:(r+1)*in], dense[o*in:(o+1)*in]
			for i := range in {
				bound += (math.Abs(float64(line[i]))*top(row, i) + math.Abs(float64(row[i]))*top(line, i) + top(row, i)*top(line, i)/254) / 254
			}
			if off := math.Abs(float64(got[r*out+o] - want[r*out+o])); off > bound*1.2 {
				t.Errorf("y[%d, %d] is off by %g, at most about %g is possible", r, o, off, bound)
			}
		}
	}
}

func normals(rng *rand.Rand, n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(rng.NormFloat64())
	}
	return v
}

// checkSum allows for f32 rounding of a sum whose terms are of that size together.
func checkSum(t *testing.T, what string, got float32, want, size float64) {
	t.Helper()
	if !(math.Abs(float64(got)-want) <= 2e-6*size+1e-12) {
		t.Errorf("%s is %g, want %g", what, got, want)
	}
}

// A Dense reads what its parameter stores, in whatever type, as f32.
func TestDense(t *testing.T) {
	values := []float32{1, -0.5, 3.25, 0, 1.0 / 1024, -96} // exact in all three types
	for _, dtype := range []tensor.DType{tensor.F32, tensor.BF16, tensor.F16} {
		value, err := tensor.FromF32(slices.Clone(values), 2, 3).To(dtype)
		if err != nil {
			t.Fatal(err)
		}
		d := NewDense("w", value)
		if out, in := d.Dims(); out != 2 || in != 3 {
			t.Errorf("%s: [%d, %d]", dtype, out, in)
		}
		if got := materialize(t, d); !slices.Equal(got, values) {
			t.Errorf("%s: %v, want %v", dtype, got, values)
		}
		if ps := d.Params(); len(ps) != 1 || ps[0] != d.P || ps[0].Trains() || ps[0].Name != "w" {
			t.Errorf("%s: parameters %v", dtype, ps)
		}
		tp := grad.NewTape(nil)
		y := d.Apply(tp, tp.Const([]float32{1, 2, 4}, 1, 3))
		if !slices.Equal(y.Data, []float32{13, 2.0/1024 - 384}) {
			t.Errorf("%s: y %v", dtype, y.Data)
		}
		for _, dst := range []*tensor.Tensor{tensor.New(2, 2), tensor.New(3, 3)} {
			if err := d.Dense(dst); err == nil || !strings.Contains(err.Error(), "w") {
				t.Errorf("%s into %v: %v", dtype, dst.Shape(), err)
			}
		}
	}
}

// Dense weights over rows of one tensor are views: they hold no storage of their own.
func TestDenseViews(t *testing.T) {
	whole := tensor.FromF32([]float32{1, 2, 3, 4, 5, 6, 7, 8}, 4, 2)
	upper, lower := NewDense("q", whole.Rows(0, 1)), NewDense("k", whole.Rows(1, 4))
	if out, in := lower.Dims(); out != 3 || in != 2 {
		t.Errorf("[%d, %d]", out, in)
	}
	lower.P.Part = grad.RowsOf([]int{2})
	lower.P.Scatter([]float32{70, 80})
	if want := []float32{1, 2, 3, 4, 5, 6, 70, 80}; !slices.Equal(whole.F32(), want) {
		t.Errorf("%v, want %v", whole.F32(), want)
	}
	whole.F32()[0] = -1
	if got := materialize(t, upper); !slices.Equal(got, []float32{-1, 2}) {
		t.Errorf("%v, want what the tensor holds", got)
	}
	copied := materialize(t, lower)
	copied[0] = 99
	if whole.F32()[2] != 3 {
		t.Error("Materialize gave the weight's own storage")
	}
}

// A layer adds its bias to every row.
func TestLinearBias(t *testing.T) {
	l := &Linear{Name: "l", Weight: NewDense("l.weight", tensor.FromF32([]float32{1, 2, 3, 4}, 2, 2)), Bias: grad.NewParam("l.bias", tensor.FromF32([]float32{10, 20}, 2))}
	tp := grad.NewTape(nil)
	y := l.Apply(tp, tp.Const([]float32{1, 0, 0, 1}, 2, 2))
	if want := []float32{11, 23, 12, 24}; !slices.Equal(y.Data, want) {
		t.Errorf("%v, want %v", y.Data, want)
	}
	names := []string{}
	for _, p := range l.Params() {
		names = append(names, p.Name)
	}
	if !slices.Equal(names, []string{"l.weight", "l.bias"}) {
		t.Errorf("parameters %v", names)
	}
}
