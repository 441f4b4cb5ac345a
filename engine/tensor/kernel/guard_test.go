//go:build linux || darwin

package kernel

import (
	"syscall"
	"testing"
	"unsafe"
)

// guarded returns n numbers that end where an inaccessible page begins, or, with
// front, begin where one ends: touching what lies beyond stops the test.
func guarded(t *testing.T, n int, front bool) (floats []float32, words []uint16) {
	page := syscall.Getpagesize()
	mem, err := syscall.Mmap(-1, 0, 3*page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Skipf("no memory map: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Munmap(mem) })
	for _, edge := range [][]byte{mem[:page], mem[2*page:]} {
		if err := syscall.Mprotect(edge, syscall.PROT_NONE); err != nil {
			t.Skipf("no protection: %v", err)
		}
	}
	middle := mem[page : 2*page]
	f, w := page-4*n, page-2*n
	if front {
		f, w = 0, 0
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(middle[f:]))), n),
		unsafe.Slice((*uint16)(unsafe.Pointer(unsafe.SliceData(middle[w:]))), n)
}

func TestNothingOutsideSlicesIsTouched(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		for _, front := range []bool{false, true} {
			for n := range 68 {
				t.Run("", func(t *testing.T) { touchAll(t, n, front) })
			}
		}
	})
}

func touchAll(t *testing.T, n int, front bool) {
	a, _ := guarded(t, n, front)
	b, _ := guarded(t, n, front)
	c, _ := guarded(t, n, front)
	d, _ := guarded(t, n, front)
	e, _ := guarded(t, n, front)
	_, w := guarded(t, n, front)
	for _, f := range []func([]float32) float32{Sum, SumSquares, Max, AbsMax} {
		f(a)
	}
	Dot(a, b)
	Axpy(2, a, b)
	Scale(2, a)
	for _, f := range []func(dst, x, y []float32){Add, Sub, Mul, MulAdd, SigmoidBackward, TanhBackward, ReLUBackward,
		SiLUBackward, GELUBackward, GELUTanhBackward, SiLUMul} {
		f(a, b, c)
	}
	for _, f := range []func(dst, x []float32){Exp, Sigmoid, Tanh, ReLU, SiLU, GELU, GELUTanh} {
		f(a, b)
	}
	ExpSum(a, b, 1)
	AttentionGrad(a, b, 1, 2)
	SiLUMulBackward(a, b, c, d, e)
	RMSNorm(a, b, c, 1)
	RMSNormBackward(a, nil, b, c, d, 1)
	RMSNormBackward(a, e, b, c, d, 1)
	LayerNorm(a, b, c, d, 1)
	LayerNormBackward(a, nil, nil, b, c, d, 1, 1)
	LayerNormBackward(a, e, nil, b, c, d, 1, 1)
	if n%2 == 0 {
		RoPE(a, b[n/2:], c[n/2:])
		RoPE(a, b[:n/2], c[:n/2])
	}
	AdamW(a, b, c, d, 1, 0.9, 0.99, 1, 0, 1, 1)
	F32ToBF16(w, a)
	F32ToF16(w, a)
	BF16ToF32(a, w)
	F16ToF32(a, w)
}

// Packed rows and the rows that meet them end where memory does.
func TestMulInt8TouchesNothingOutside(t *testing.T) {
	bytes := func(n int, front bool) []byte {
		_, w := guarded(t, (n+1)/2, front)
		b := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(w))), 2*len(w))
		if front {
			return b[:n]
		}
		return b[len(b)-n:]
	}
	eachPath(t, func(t *testing.T) {
		for _, front := range []bool{false, true} {
			for _, k := range []int{1, 31, 33, 64, 96, 130, 300} {
				q := NewQ4(3, k, 32)
				q.Codes, q.Zeros = bytes(len(q.Codes), front), bytes(len(q.Zeros), front)
				_, q.Scales = guarded(t, len(q.Scales), front)
				for _, m := range []int{1, 3} {
					x, _ := guarded(t, m*k, front)
					c, _ := guarded(t, m*3, front)
					MulInt8(c, 3, m, 3, k, x, k, q)
				}
			}
		}
	})
}
