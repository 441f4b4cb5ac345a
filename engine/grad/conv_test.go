package grad_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"tare/engine/grad"
	"tare/engine/tensor"
	"tare/engine/tensor/kernel"
)

// windowRef calls f for every output pixel p and every pixel q under its window, tap
// being the position in the window, straight from the definition.
func windowRef(g grad.Grid, w grad.Window, f func(p, tap, q int)) {
	out := w.Out(g)
	p := 0
	for n := range g.Images {
		for oy := range out.Height {
			for ox := range out.Width {
				for i := range w.Kernel[0] {
					for j := range w.Kernel[1] {
						y := oy*max(w.Stride[0], 1) - w.Padding[0] + i*max(w.Dilation[0], 1)
						x := ox*max(w.Stride[1], 1) - w.Padding[1] + j*max(w.Dilation[1], 1)
						if y >= 0 && y < g.Height && x >= 0 && x < g.Width {
							f(p, i*w.Kernel[1]+j, (n*g.Height+y)*g.Width+x)
						}
					}
				}
				p++
			}
		}
	}
}

func convRef(x, k []float64, g grad.Grid, w grad.Window, in, out int) []float64 {
	y := make([]float64, w.Out(g).Rows()*out)
	groups := max(w.Groups, 1)
	gin, gout := in/groups, out/groups
	windowRef(g, w, func(p, tap, q int) {
		for o := range out {
			for c := range gin {
				y[p*out+o] += x[q*in+o/gout*gin+c] * k[(o*w.Kernel[0]*w.Kernel[1]+tap)*gin+c]
			}
		}
	})
	return y
}

type convShape struct {
	grid    grad.Grid
	window  grad.Window
	in, out int
}

func (s convShape) String() string {
	return fmt.Sprintf("%v,%v,%d to %d", s.grid, s.window, s.in, s.out)
}

var convShapes = []convShape{
	{grad.Grid{Images: 1, Height: 1, Width: 1}, grad.Window{Kernel: [2]int{1, 1}}, 1, 1},
	{grad.Grid{Images: 2, Height: 5, Width: 7}, grad.Square(3, 1, 1), 3, 5},
	{grad.Grid{Images: 3, Height: 7, Width: 5}, grad.Square(3, 2, 1), 4, 3},
	{grad.Grid{Images: 2, Height: 6, Width: 6}, grad.Square(1, 2, 0), 5, 7},
	{grad.Grid{Images: 2, Height: 6, Width: 6}, grad.Square(1, 1, 0), 5, 7},
	{grad.Grid{Images: 1, Height: 4, Width: 4}, grad.Square(1, 1, 1), 2, 3},
	{grad.Grid{Images: 2, Height: 9, Width: 8}, grad.Window{Kernel: [2]int{2, 3}, Stride: [2]int{2, 1}, Padding: [2]int{0, 2}, Dilation: [2]int{3, 2}}, 2, 3},
	{grad.Grid{Images: 1, Height: 8, Width: 9}, grad.Window{Kernel: [2]int{3, 3}, Padding: [2]int{2, 2}, Dilation: [2]int{2, 2}}, 3, 2},
	{grad.Grid{Images: 2, Height: 4, Width: 5}, grad.Square(3, 1, 3), 2, 2},
	{grad.Grid{Images: 2, Height: 5, Width: 6}, grad.Window{Kernel: [2]int{3, 3}, Stride: [2]int{2, 1}, Padding: [2]int{1, 1}, Groups: 2}, 6, 4},
	{grad.Grid{Images: 2, Height: 6, Width: 5}, grad.Window{Kernel: [2]int{3, 2}, Stride: [2]int{1, 2}, Padding: [2]int{1, 0}, Groups: 5}, 5, 5},
	{grad.Grid{Images: 2, Height: 5, Width: 5}, grad.Window{Kernel: [2]int{5, 5}}, 3, 4},
}

func TestConv2d(t *testing.T) {
	for _, s := range convShapes {
		for _, train := range []bool{true, false} {
			for _, frozen := range []bool{false, true} {
				if frozen && !train {
					continue
				}
				w := weight{shape: []int{s.out, s.window.Area() * s.in / max(s.window.Groups, 1)}}
				if train {
					w.part = grad.Whole
				}
				opCase{
					name: fmt.Sprintf("Conv2d/%v/train %v/frozen x %v", s, train, frozen), in: []input{{rows: s.grid.Rows(), cols: s.in, frozen: frozen}},
					weights: []weight{w},
					tape: func(tp *grad.Tape, x []*grad.Value, p []*grad.Param) *grad.Value {
						return tp.Conv2d(x[0], p[0], s.grid, s.window)
					},
					ref: func(x [][]float64) []float64 { return convRef(x[0], x[1], s.grid, s.window, s.in, s.out) },
				}.check(t)
			}
		}
	}
}

// A frozen kernel may be stored in half precision.
func TestConv2dOverHalfStorage(t *testing.T) {
	for _, s := range convShapes[1:4] {
		opCase{
			name: fmt.Sprintf("Conv2d/%v/bf16", s), in: []input{{rows: s.grid.Rows(), cols: s.in}},
			weights: []weight{{shape: []int{s.out, s.window.Area() * s.in}, dtype: tensor.BF16}},
			tape: func(tp *grad.Tape, x []*grad.Value, p []*grad.Param) *grad.Value {
				return tp.Conv2d(x[0], p[0], s.grid, s.window)
			},
			ref: func(x [][]float64) []float64 { return convRef(x[0], x[1], s.grid, s.window, s.in, s.out) },
		}.check(t)
	}
}

// A weight of any kind over patches is the same convolution, whatever part trains.
func TestPatches(t *testing.T) {
	for _, s := range convShapes {
		if s.window.Groups > 1 {
			continue
		}
		in := s.window.Area() * s.in
		for pn, part := range matrixParts(s.out, in) {
			opCase{
				name: fmt.Sprintf("Patches/%v/%s", s, pn), in: []input{{rows: s.grid.Rows(), cols: s.in}},
				weights: []weight{{shape: []int{s.out, in}, part: part}},
				tape: func(tp *grad.Tape, x []*grad.Value, p []*grad.Param) *grad.Value {
					return tp.Scope(func() *grad.Value { return tp.Linear(tp.Patches(x[0], s.grid, s.window), p[0]) })
				},
				ref: func(x [][]float64) []float64 { return convRef(x[0], x[1], s.grid, s.window, s.in, s.out) },
			}.check(t)
		}
	}
}

// Patches are not held between the passes.
func TestPatchesAreDropped(t *testing.T) {
	g, w := grad.Grid{Images: 2, Height: 8, Width: 8}, grad.Square(3, 1, 1)
	r := newRand("dropped")
	p := newParam(t, "w", normal(r, 4*36, 1), tensor.F32, 4, 36)
	p.Part = grad.Whole
	ledger := &grad.Ledger{}
	tp := grad.NewTape(ledger)
	x := tp.Const(normal(r, g.Rows()*4, 1), g.Rows(), 4)
	loss := tp.Sum(tp.Scope(func() *grad.Value { return tp.Linear(tp.Patches(x, g, w), p) }))
	if held, limit := ledger.Now(grad.Activations), int64(4*(g.Rows()*4+1)); held > limit {
		t.Errorf("%d bytes of activations held, the output and the loss are %d", held, limit)
	}
	if err := tp.Backward(loss, func(*grad.Param, *tensor.Tensor) error { return nil }); err != nil {
		t.Fatal(err)
	}
	mustBeClean(t, ledger)
}

// The bits of a convolution and its gradients do not depend on the number of threads.
func TestConv2dBitsAreIndependentOfThreads(t *testing.T) {
	defer kernel.SetThreads(kernel.Threads())
	for _, w := range []grad.Window{grad.Square(3, 1, 1), grad.Square(3, 2, 1), {Kernel: [2]int{3, 3}, Groups: 12}} {
		g := grad.Grid{Images: 5, Height: 19, Width: 17}
		r := newRand("threads")
		data := normal(r, g.Rows()*12, 1)
		in := 9 * 12 / max(1, w.Groups)
		p := newParam(t, "w", normal(r, 12*in, 1), tensor.F32, 12, in)
		p.Part = grad.Whole
		var first []float32
		for _, n := range []int{1, 2, 3} {
			kernel.SetThreads(n)
			tp := grad.NewTape(nil)
			x := tp.Leaf(data, g.Rows(), 12)
			y := tp.Conv2d(x, p, g, w)
			all := append([]float32(nil), y.Data...)
			if err := tp.Backward(tp.Sum(tp.Mul(y, y)), func(_ *grad.Param, d *tensor.Tensor) error {
				all = append(all, d.F32()...)
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			all = append(all, x.Grad()...)
			if first == nil {
				first = all
			}
			for i := range all {
				if math.Float32bits(all[i]) != math.Float32bits(first[i]) {
					t.Fatalf("window %v: number %d of %d: %v with %d threads, %v with 1", w, i, len(all), all[i], n, first[i])
				}
			}
		}
	}
}

func TestWindowCheck(t *testing.T) {
	g := grad.Grid{Images: 1, Height: 4, Width: 6}
	for _, w := range []grad.Window{{}, grad.Square(5, 1, 0), {Kernel: [2]int{3, 3}, Padding: [2]int{-1, 0}}, {Kernel: [2]int{3, 3}, Dilation: [2]int{2, 1}}} {
		if w.Check(g) == nil {
			t.Errorf("%+v over %v: no error", w, g)
		}
	}
	if out := grad.Square(3, 2, 1).Out(g); out != (grad.Grid{Images: 1, Height: 2, Width: 3}) {
		t.Errorf("out %v", out)
	}
}

var poolShapes = []convShape{
	{grad.Grid{Images: 1, Height: 1, Width: 1}, grad.Square(1, 1, 0), 1, 0},
	{grad.Grid{Images: 2, Height: 6, Width: 4}, grad.Square(2, 2, 0), 3, 0},
	{grad.Grid{Images: 3, Height: 7, Width: 5}, grad.Square(3, 2, 1), 17, 0},
	{grad.Grid{Images: 2, Height: 5, Width: 6}, grad.Window{Kernel: [2]int{2, 3}, Stride: [2]int{1, 2}, Padding: [2]int{1, 0}, Dilation: [2]int{2, 1}}, 2, 0},
}

func TestPools(t *testing.T) {
	for _, s := range poolShapes {
		in := []input{{rows: s.grid.Rows(), cols: s.in}}
		opCase{
			name: fmt.Sprintf("MaxPool/%v", s), in: in,
			tape: func(tp *grad.Tape, x []*grad.Value, _ []*grad.Param) *grad.Value {
				return tp.MaxPool(x[0], s.grid, s.window)
			},
			ref: func(x [][]float64) []float64 {
				y := make([]float64, s.window.Out(s.grid).Rows()*s.in)
				for i := range y {
					y[i] = math.Inf(-1)
				}
				windowRef(s.grid, s.window, func(p, _, q int) {
					for c := range s.in {
						y[p*s.in+c] = max(y[p*s.in+c], x[0][q*s.in+c])
					}
				})
				return y
			},
		}.check(t)
		average := func(w grad.Window) func(x [][]float64) []float64 {
			return func(x [][]float64) []float64 {
				y := make([]float64, w.Out(s.grid).Rows()*s.in)
				windowRef(s.grid, w, func(p, _, q int) {
					for c := range s.in {
						y[p*s.in+c] += x[0][q*s.in+c] / float64(w.Area())
					}
				})
				return y
			}
		}
		opCase{
			name: fmt.Sprintf("AvgPool/%v", s), in: in, ref: average(s.window),
			tape: func(tp *grad.Tape, x []*grad.Value, _ []*grad.Param) *grad.Value {
				return tp.AvgPool(x[0], s.grid, s.window)
			},
		}.check(t)
		opCase{
			name: fmt.Sprintf("GlobalAvgPool/%v", s), in: in, ref: average(grad.Window{Kernel: [2]int{s.grid.Height, s.grid.Width}}),
			tape: func(tp *grad.Tape, x []*grad.Value, _ []*grad.Param) *grad.Value {
				return tp.GlobalAvgPool(x[0], s.grid)
			},
		}.check(t)
	}
}

// Where several pixels of a window are the largest, the gradient goes to one of them.
func TestMaxPoolOfEqualValues(t *testing.T) {
	tp := grad.NewTape(nil)
	x := tp.Leaf([]float32{0, 0, 0, 0, float32(math.Inf(-1)), float32(math.Inf(-1)), float32(math.Inf(-1)), float32(math.Inf(-1))}, 8, 1)
	y := tp.MaxPool(x, grad.Grid{Images: 2, Height: 2, Width: 2}, grad.Square(2, 2, 0))
	if y.Data[0] != 0 || !math.IsInf(float64(y.Data[1]), -1) {
		t.Errorf("largest %v", y.Data)
	}
	if err := tp.Backward(tp.Sum(y), nil); err != nil {
		t.Fatal(err)
	}
	for i, v := range x.Grad() {
		if want := float32(map[int]int{0: 1, 4: 1}[i]); v != want {
			t.Errorf("gradient %v", x.Grad())
			break
		}
	}
}

func BenchmarkConv2d(b *testing.B) {
	for _, s := range []convShape{
		{grad.Grid{Images: 64, Height: 28, Width: 28}, grad.Square(3, 1, 1), 1, 32},
		{grad.Grid{Images: 64, Height: 28, Width: 28}, grad.Square(3, 1, 1), 16, 16},
		{grad.Grid{Images: 64, Height: 28, Width: 28}, grad.Square(3, 1, 1), 32, 32},
		{grad.Grid{Images: 64, Height: 14, Width: 14}, grad.Square(3, 1, 1), 64, 64},
		{grad.Grid{Images: 64, Height: 14, Width: 14}, grad.Square(3, 2, 1), 64, 128},
		{grad.Grid{Images: 64, Height: 7, Width: 7}, grad.Square(3, 1, 1), 128, 128},
	} {
		r := rand.New(rand.NewPCG(1, 1))
		k := s.window.Area() * s.in
		p := grad.NewParam("w", tensor.FromF32(normal(r, s.out*k, 1), s.out, k))
		p.Part = grad.Whole
		data := normal(r, s.grid.Rows()*s.in, 1)
		rows := s.window.Out(s.grid).Rows()
		ones := normal(r, rows*s.out, 1)
		flop := 2 * float64(rows*s.out*k)
		rate := func(b *testing.B, times float64) {
			b.ReportMetric(times*flop*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
		}
		b.Run(fmt.Sprintf("forward/%v", s), func(b *testing.B) {
			tp := grad.NewTape(nil)
			tp.NoGrad(func() {
				for b.Loop() {
					tp.Conv2d(tp.Const(data, s.grid.Rows(), s.in), p, s.grid, s.window)
					tp.Reset()
				}
			})
			rate(b, 1)
		})
		b.Run(fmt.Sprintf("both/%v", s), func(b *testing.B) {
			tp := grad.NewTape(nil)
			for b.Loop() {
				x := tp.Scale(tp.Leaf(data, s.grid.Rows(), s.in), 1)
				y := tp.Conv2d(x, p, s.grid, s.window)
				loss := tp.Sum(tp.MatMul(tp.Const(ones[:rows], 1, rows), tp.MatMul(y, tp.Const(ones[:s.out], s.out, 1), false, false), false, false))
				if err := tp.Backward(loss, nil); err != nil {
					b.Fatal(err)
				}
			}
			rate(b, 3)
		})
		b.Run(fmt.Sprintf("gemm/%v", s), func(b *testing.B) {
			y, x := make([]float32, rows*s.out), normal(r, rows*k, 1)
			for b.Loop() {
				kernel.Gemm(y, s.out, rows, s.out, k, kernel.Operand{F32: x, LD: k}, p.Value.Operand(true), kernel.GemmOptions{})
			}
			rate(b, 1)
		})
	}
}
