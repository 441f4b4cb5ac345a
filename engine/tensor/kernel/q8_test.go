package kernel

import (
	"math"
	"math/rand/v2"
	"strconv"
	"testing"
)

// rounded8 is the row that MulInt8 multiplies, by its definition, in float64: each group
// is its scale max|x|/127 times the nearest integers.
func rounded8(x []float32, group int) []float64 {
	out := make([]float64, len(x))
	for from := 0; from < len(x); from += group {
		part := x[from:min(from+group, len(x))]
		var top float32
		for _, v := range part {
			top = max(top, float32(math.Abs(float64(v))))
		}
		if top < tinyGroup {
			continue
		}
		for i, v := range part {
			out[from+i] = float64(top/127) * math.RoundToEven(float64(v*(127/top)))
		}
	}
	return out
}

var int8Shapes = [][3]int{{1, 1, 1}, {1, 5, 33}, {2, 3, 64}, {3, 17, 100}, {4, 9, 31}, {5, 40, 160}, {6, 7, 520}, {7, 33, 96},
	{8, 70, 768}, {9, 12, 2048}, {13, 4, 1100}, {17, 5, 224}, {20, 3, 4100}, {1, 2, 9000}}

func TestMulInt8AgainstFloat64(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(7, 8))
		for _, s := range int8Shapes {
			m, n, k := s[0], s[1], s[2]
			for _, group := range []int{32, 64, 96, 128, 256} {
				x, w := draw(rng, "f32", m, k, false), q4Of(rng, n, k, group)
				for i := range x.op.F32 { // rows of different sizes, some groups all zero
					if i/40%7 == 3 {
						x.op.F32[i] = 0
					}
					x.op.F32[i] *= float32(math.Pow(10, float64(i/x.op.LD%4)-2))
				}
				ldc := n + 3
				c := make([]float32, m*ldc+7)
				for i := range c {
					c[i] = 77
				}
				MulInt8(c, ldc, m, n, k, x.op.F32, x.op.LD, w.op.Q4)
				checkInt8(t, c, ldc, m, n, k, group, x.op, w)
			}
		}
	})
}

func TestMulBytesAgainstFloat64(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(15, 16))
		for _, s := range int8Shapes {
			m, n, k := s[0], s[1], s[2]
			for _, store := range storages[:3] {
				x, w := draw(rng, "f32", m, k, false), draw(rng, store, n, k, false)
				b := NewBytes(n, k, w.op)
				for r := range n { // what the matrix means now
					row := make([]float32, k)
					for j := range row {
						row[j] = float32(w.mean[r*k+j])
					}
					for j, v := range rounded8(row, bytesGroup) {
						var top float32
						for _, u := range row[j/bytesGroup*bytesGroup : min(k, (j/bytesGroup+1)*bytesGroup)] {
							top = max(top, float32(math.Abs(float64(u))))
						}
						if w.mean[r*k+j] = 0; top > 0 {
							w.mean[r*k+j] = math.Round(v/float64(top/127)) * float64(halfToFloat(floatToHalf(top/127)))
						}
					}
				}
				ldc := n + 3
				c := make([]float32, m*ldc+7)
				for i := range c {
					c[i] = 77
				}
				MulBytes(c, ldc, m, n, k, x.op.F32, x.op.LD, b)
				// Codes and 128 times the sum are added apart: so large are the terms.
				checkInt8(t, c, ldc, m, n, k, bytesGroup, x.op, w)
			}
		}
		if NewBytes(1, 2, Operand{F32: []float32{1, 1e30}, LD: 2}) != nil {
			t.Error("a scale of 1e28 is taken")
		}
	})
}

// q4Of returns a random packed matrix of that group size.
func q4Of(rng *rand.Rand, rows, cols, group int) stored {
	for {
		if w := draw(rng, "q4", rows, cols, false); group <= 64 && w.op.Q4.Group == group {
			return w
		} else if group > 64 {
			q := NewQ4(rows, cols, group)
			copy(q.Codes, w.op.Q4.Codes)
			for i := range q.Scales {
				q.Scales[i], q.Zeros[i] = floatToHalf(float32(0.1+0.1*rng.Float64())), uint8(rng.IntN(16))
			}
			w.op.Q4 = q
			for r := range rows {
				for c := range cols {
					b := q.Codes[r*((cols+31)/32*16)+c/32*16+c%16]
					code := int(b >> (c % 32 / 16 * 4) & 15)
					g := r*((cols+group-1)/group) + c/group
					w.mean[r*cols+c] = float64(float32(code-int(q.Zeros[g])) * halfToFloat(q.Scales[g]))
				}
			}
			return w
		}
	}
}

func checkInt8(t *testing.T, c []float32, ldc, m, n, k, group int, x Operand, w stored) {
	t.Helper()
	for i := range c {
		r, j := i/ldc, i%ldc
		if r >= m || j >= n {
			if c[i] != 77 {
				t.Fatalf("[%d,%d,%d] groups of %d: wrote outside C at row %d column %d", m, n, k, group, r, j)
			}
			continue
		}
		row := rounded8(x.F32[r*x.LD:r*x.LD+k], group)
		var want, size float64
		for p, v := range row {
			want += v * w.mean[j*k+p]
			size += math.Abs(v) * 3 // codes and zero points are summed apart
		}
		if math.Abs(float64(c[i])-want) > 2e-6*size+1e-12 {
			t.Fatalf("[%d,%d,%d] groups of %d: C[%d,%d] = %g, want %g", m, n, k, group, r, j, c[i], want)
		}
	}
}

// What a row gives does not depend on the rows beside it nor on the threads, and the
// rounded numbers are the same integers on every path.
func TestMulInt8RowsAreAlone(t *testing.T) {
	was := Threads()
	defer SetThreads(was)
	eachPath(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(9, 10))
		const n, k = 50, 500
		x, w := draw(rng, "f32", 19, k, false), q4Of(rng, n, k, 64)
		all := make([]float32, 19*n)
		SetThreads(3)
		MulInt8(all, n, 19, n, k, x.op.F32, x.op.LD, w.op.Q4)
		SetThreads(1)
		for r := range 19 {
			one := make([]float32, n)
			MulInt8(one, n, 1, n, k, x.op.F32[r*x.op.LD:], x.op.LD, w.op.Q4)
			for j, v := range one {
				if v != all[r*n+j] {
					t.Fatalf("row %d column %d: %g alone, %g beside others", r, j, v, all[r*n+j])
				}
			}
		}
	})
}

func TestRoundGroupIsTheSameOnEveryPath(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	inf := float32(math.Inf(1))
	for _, blocks := range []int{1, 2, 3, 4, 7} {
		for place := range unitBlocks {
			for _, size := range []float32{1, 1e-30, 1e30, 0, 1e-37, 1e-42} {
				x := make([]float32, blocks*q4Block)
				for i := range x {
					x[i] = size * (2*rng.Float32() - 1)
				}
				want, grid := make([]int8, 1000), make([]float32, 17)
				roundGroupGo(want, x, place, 300, grid)
				eachPath(t, func(t *testing.T) {
					got, g := make([]int8, 1000), make([]float32, 17)
					roundGroup(got, x, place, 300, g)
					for i, v := range got {
						if v != want[i] {
							t.Fatalf("%d blocks from place %d, size %g: byte %d is %d, want %d", blocks, place, size, i, v, want[i])
						}
					}
					if g[0] != grid[0] || g[gridGroups] != grid[gridGroups] {
						t.Fatalf("size %g: scale %g and sum %g, want %g and %g", size, g[0], g[gridGroups], grid[0], grid[gridGroups])
					}
				})
			}
		}
	}
	// Where a number is not finite, no result is.
	eachPath(t, func(t *testing.T) {
		for _, v := range []float32{inf, -inf, float32(math.NaN())} {
			x, w := make([]float32, 96), q4Of(rng, 5, 96, 32)
			for i := range x {
				x[i] = rng.Float32()
			}
			x[40] = v
			c := make([]float32, 5)
			MulInt8(c, 5, 1, 5, 96, x, 96, w.op.Q4)
			for j, s := range c {
				if !math.IsNaN(float64(s)) && !math.IsInf(float64(s), 0) {
					t.Errorf("%g in a row gives %g in column %d", v, s, j)
				}
			}
		}
	})
}

func BenchmarkMulInt8(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, m := range []int{1, 8, 64} {
		for _, s := range [][2]int{{768, 768}, {2048, 768}, {768, 2048}, {16384, 2048}} {
			n, k := s[0], s[1]
			w := q4Of(rng, n, k, 64)
			x, c := make([]float32, m*k), make([]float32, m*n)
			for i := range x {
				x[i] = rng.Float32()
			}
			for _, how := range []string{"int8", "f32"} {
				b.Run(how+"/"+strconv.Itoa(m)+"x"+strconv.Itoa(n)+"x"+strconv.Itoa(k), func(b *testing.B) {
					for b.Loop() {
						if how == "int8" {
							MulInt8(c, n, m, n, k, x, k, w.op.Q4)
						} else {
							Gemm(c, n, m, n, k, Operand{F32: x, LD: k}, Operand{Q4: w.op.Q4, Trans: true}, GemmOptions{})
						}
					}
					each := b.Elapsed().Seconds() / float64(b.N)
					b.ReportMetric(float64(len(w.op.Q4.Codes)+3*len(w.op.Q4.Zeros))/each/1e9, "GB/s")
					b.ReportMetric(2*float64(m)*float64(n)*float64(k)/each/1e9, "GFLOP/s")
				})
			}
		}
	}
}
