package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// eachPath runs f on every code path of this processor.
func eachPath(t *testing.T, f func(t *testing.T)) {
	was := Path()
	defer func() { _ = SetPath(was) }()
	for _, name := range Paths() {
		if err := SetPath(name); err != nil {
			t.Fatal(err)
		}
		t.Run(name, f)
	}
}

// stored is a matrix [rows, cols] in one of the storages, with what it means.
type stored struct {
	op   Operand
	mean []float64
}

var storages = []string{"f32", "bf16", "f16", "q4"}

// draw returns a random operand meaning [rows, cols]; its rows lie a little further
// apart than they must.
func draw(rng *rand.Rand, storage string, rows, cols int, trans bool) stored {
	r, c := rows, cols
	if trans {
		r, c = cols, rows
	}
	ld := c + rng.IntN(5)
	s := stored{op: Operand{LD: ld, Trans: trans}, mean: make([]float64, rows*cols)}
	flat := make([]float32, r*ld)
	for i := range flat {
		flat[i] = float32(rng.NormFloat64())
	}
	switch storage {
	case "f32":
		s.op.F32 = flat
	case "bf16":
		s.op.BF16 = make([]uint16, len(flat))
		f32ToBF16Go(s.op.BF16, flat)
		bf16ToF32Go(flat, s.op.BF16)
	case "f16":
		s.op.F16 = make([]uint16, len(flat))
		f32ToF16Go(s.op.F16, flat)
		f16ToF32Go(flat, s.op.F16)
	case "q4":
		q := &Q4{Rows: r, Cols: c, Group: 32 * (1 + rng.IntN(2))}
		q.Codes = make([]byte, r*q.Stride())
		q.Scales, q.Zeros = make([]uint16, r*q.Groups()), make([]uint8, r*q.Groups())
		for i := range q.Codes {
			q.Codes[i] = byte(rng.Uint32())
		}
		for i := range q.Scales {
			q.Scales[i], q.Zeros[i] = floatToHalf(float32(0.1+0.1*rng.Float64())), uint8(rng.IntN(16))
		}
		s.op.Q4 = q
		for i := range r {
			for j := range c { // the format's formula, written out
				b := q.Codes[i*((c+31)/32*16)+j/32*16+j%16]
				code := int(b & 15)
				if j%32 >= 16 {
					code = int(b >> 4)
				}
				g := i*((c+q.Group-1)/q.Group) + j/q.Group
				flat[i*ld+j] = float32(code-int(q.Zeros[g])) * halfToFloat(q.Scales[g])
			}
		}
	}
	for i := range rows {
		for j := range cols {
			if trans {
				s.mean[i*cols+j] = float64(flat[j*ld+i])
			} else {
				s.mean[i*cols+j] = float64(flat[i*ld+j])
			}
		}
	}
	return s
}

// checkGemm multiplies and compares with float64; cells between rows of C must stay.
func checkGemm(t *testing.T, rng *rand.Rand, m, n, k int, a, b stored, o GemmOptions, gemm func([]float32, int, int, int, int, Operand, Operand, GemmOptions)) {
	t.Helper()
	ldc := n + 3
	c, was := make([]float32, m*ldc+7), make([]float32, m*ldc+7)
	for i := range c {
		c[i] = float32(rng.NormFloat64())
	}
	copy(was, c)
	gemm(c, ldc, m, n, k, a.op, b.op, o)
	if o.BF16 && (m > rowsDotted || !b.op.Trans || a.op.Trans) {
		a.mean, b.mean = rounded(a.mean), rounded(b.mean)
	}
	for i := range c {
		r, j := i/ldc, i%ldc
		if r >= m || j >= n {
			if c[i] != was[i] {
				t.Fatalf("[%d,%d,%d] %+v: wrote outside C at row %d column %d", m, n, k, o, r, j)
			}
			continue
		}
		var sum, size float64
		for p := range k {
			v := a.mean[r*k+p] * b.mean[p*n+j]
			sum += v
			size += math.Abs(v)
		}
		alpha := float64(o.Alpha)
		if alpha == 0 {
			alpha = 1
		}
		want := alpha * sum
		if o.Bias != nil {
			want += float64(o.Bias[j])
		}
		if o.Accumulate {
			want += float64(was[i])
		}
		if bound := 2e-6*(math.Abs(alpha)*size+2) + 1e-7; math.Abs(float64(c[i])-want) > bound {
			t.Fatalf("[%d,%d,%d] alpha %g bias %v accumulate %v A trans %v B trans %v: C[%d,%d] = %g, want %g", m, n, k, o.Alpha, o.Bias != nil, o.Accumulate, a.op.Trans, b.op.Trans, r, j, c[i], want)
		}
	}
}

// rounded returns values to bfloat16, to nearest even.
func rounded(v []float64) []float64 {
	out := make([]float64, len(v))
	for i, x := range v {
		var h [1]uint16
		f32ToBF16Go(h[:], []float32{float32(x)})
		out[i] = float64(math.Float32frombits(uint32(h[0]) << 16))
	}
	return out
}

func TestGemmAgainstFloat64(t *testing.T) {
	sizes := [][3]int{{1, 1, 1}, {1, 33, 70}, {2, 5, 64}, {3, 40, 96}, {4, 64, 33}, {5, 17, 1}, {8, 100, 129}, {9, 31, 16}, {14, 32, 8}, {15, 33, 259}, {29, 65, 7}, {31, 128, 65}, {64, 48, 64}, {70, 1, 40}, {130, 97, 513}, {2, 3, 0}}
	eachPath(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(1, 2))
		for _, s := range sizes {
			m, n, k := s[0], s[1], s[2]
			for _, store := range storages {
				if k == 0 && store == "q4" {
					continue
				}
				for mode := range 8 {
					a := draw(rng, "f32", m, k, mode&1 != 0)
					b := draw(rng, store, k, n, mode&2 != 0)
					o := GemmOptions{Accumulate: mode&4 != 0}
					if mode%3 == 0 {
						o.Alpha = -0.75
					}
					if mode%2 == 0 {
						o.Bias = make([]float32, n)
						for j := range o.Bias {
							o.Bias[j] = float32(rng.NormFloat64())
						}
					}
					checkGemm(t, rng, m, n, k, a, b, o, Gemm)
					checkGemm(t, rng, m, n, k, a, b, o, GemmSerial)
					o.BF16 = true
					checkGemm(t, rng, m, n, k, a, b, o, Gemm)
				}
			}
		}
		for _, store := range storages[1:] { // a stored left operand
			checkGemm(t, rng, 33, 40, 70, draw(rng, store, 33, 70, false), draw(rng, "f32", 70, 40, false), GemmOptions{}, Gemm)
			checkGemm(t, rng, 33, 40, 70, draw(rng, store, 33, 70, true), draw(rng, "f32", 70, 40, true), GemmOptions{}, Gemm)
		}
	})
}

func TestGemmRowsQ4AgainstDense(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(3, 4))
		for m := 1; m <= 9; m++ {
			for _, k := range []int{32, 64, 96, 100, 160, 31} {
				checkGemm(t, rng, m, 37, k, draw(rng, "f32", m, k, false), draw(rng, "q4", k, 37, true), GemmOptions{Alpha: 2}, Gemm)
			}
		}
	})
}

// Up to eight rows pass over a transposed B without its being packed.
func TestGemmFewRowsAgainstFloat64(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(13, 14))
		for m := 1; m <= 9; m++ {
			for _, s := range [][2]int{{1, 16}, {2, 48}, {3, 33}, {4, 31}, {7, 100}, {37, 640}, {1, 15}, {300, 257}, {13, 64}, {5, 16}, {8, 128}, {300, 256}} {
				for _, store := range storages[:3] {
					a, b := draw(rng, "f32", m, s[1], false), draw(rng, store, s[1], s[0], true)
					o := GemmOptions{Alpha: 2, Accumulate: true, Bias: make([]float32, s[0])}
					o.Bias[0] = 3
					checkGemm(t, rng, m, s[0], s[1], a, b, GemmOptions{}, Gemm)
					checkGemm(t, rng, m, s[0], s[1], a, b, o, Gemm)
					checkGemm(t, rng, m, s[0], s[1], a, b, GemmOptions{Accumulate: true}, GemmSerial)
				}
			}
		}
	})
}

func BenchmarkFewRows(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, m := range []int{1, 8} {
		for _, s := range [][2]int{{768, 768}, {2048, 768}, {768, 2048}, {16384, 768}} {
			for _, store := range storages[:2] {
				b.Run(fmt.Sprintf("%s/%dx%dx%d", store, m, s[0], s[1]), func(b *testing.B) {
					x, w := draw(rng, "f32", m, s[1], false), draw(rng, store, s[1], s[0], true)
					c := make([]float32, m*s[0])
					for b.Loop() {
						Gemm(c, s[0], m, s[0], s[1], x.op, w.op, GemmOptions{})
					}
					each := b.Elapsed().Seconds() / float64(b.N)
					b.ReportMetric(float64(4*len(w.op.F32)+2*len(w.op.BF16))/each/1e9, "GB/s")
					b.ReportMetric(2*float64(m)*float64(s[0])*float64(s[1])/each/1e9, "GFLOP/s")
				})
			}
		}
	}
}

// The bits must not depend on the number of threads.
func TestGemmBitsAreThreadless(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(5, 6))
		was := Threads()
		defer SetThreads(was)
		for _, s := range [][3]int{{200, 150, 300}, {3, 500, 200}, {7, 500, 200}, {2, 1003, 64}} {
			m, n, k := s[0], s[1], s[2]
			a, b := draw(rng, "f32", m, k, false), draw(rng, "f32", k, n, true)
			var first []float32
			for _, threads := range []int{1, 2, 3, 7} {
				SetThreads(threads)
				c := make([]float32, m*n)
				Gemm(c, n, m, n, k, a.op, b.op, GemmOptions{})
				if first == nil {
					first = c
				}
				for i := range c {
					if c[i] != first[i] {
						t.Fatalf("%d threads: element %d is %g, with one thread %g", threads, i, c[i], first[i])
					}
				}
			}
		}
	})
}

func BenchmarkGemmBF16(b *testing.B) {
	const n = 1024
	rng := rand.New(rand.NewPCG(1, 1))
	x, w, c := make([]float32, n*n), make([]float32, n*n), make([]float32, n*n)
	for i := range x {
		x[i], w[i] = rng.Float32(), rng.Float32()
	}
	for b.Loop() {
		Gemm(c, n, n, n, n, Operand{F32: x, LD: n}, Operand{F32: w, LD: n, Trans: true}, GemmOptions{BF16: true})
	}
	b.ReportMetric(2*n*n*n*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
}

func BenchmarkGemm(b *testing.B) {
	for _, s := range [][3]int{{1024, 1024, 1024}, {1024, 256, 256}, {1024, 1024, 256}, {1024, 256, 1024}, {1024, 8, 256}, {1, 2048, 2048}} {
		m, n, k := s[0], s[1], s[2]
		for _, trans := range []string{"NN", "NT", "TN"} {
			for _, threads := range []int{1, 2} {
				b.Run(fmt.Sprintf("%dx%dx%d/%s/threads=%d", m, n, k, trans, threads), func(b *testing.B) {
					was := Threads()
					defer SetThreads(was)
					SetThreads(threads)
					rng := rand.New(rand.NewPCG(1, 1))
					x, w, c := make([]float32, m*k), make([]float32, k*n), make([]float32, m*n)
					for i := range x {
						x[i] = rng.Float32()
					}
					for i := range w {
						w[i] = rng.Float32()
					}
					ao, bo := Operand{F32: x, LD: k}, Operand{F32: w, LD: n}
					if trans == "TN" {
						ao = Operand{F32: x, LD: m, Trans: true}
					}
					if trans == "NT" {
						bo = Operand{F32: w, LD: k, Trans: true}
					}
					for b.Loop() {
						Gemm(c, n, m, n, k, ao, bo, GemmOptions{})
					}
					b.ReportMetric(2*float64(m)*float64(n)*float64(k)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
				})
			}
		}
	}
}
