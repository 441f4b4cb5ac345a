package tensor

import (
	"fmt"
	"math"
	"sync/atomic"
	"unsafe"

	"tare/engine/tensor/kernel"
)

// Tensor is a contiguous row-major array. The bytes may be owned by the heap or
// by a Mapping; a tensor over a mapping must not be written or used after the
// mapping is closed.
type Tensor struct {
	dtype DType
	shape []int
	data  []byte
	fixed bool // over memory that must not be written
}

// New returns a zeroed f32 tensor on the heap.
func New(shape ...int) *Tensor { return NewOf(F32, shape...) }

// NewOf returns a zeroed tensor of the given type on the heap.
func NewOf(dtype DType, shape ...int) *Tensor {
	n := count(shape)
	t := &Tensor{dtype: dtype, shape: append([]int(nil), shape...)}
	switch dtype.Size() { // allocate as the element type, so that alignment is right
	case 8:
		t.data = bytesOf(make([]uint64, n))
	case 4:
		t.data = bytesOf(make([]uint32, n))
	case 2:
		t.data = bytesOf(make([]uint16, n))
	default:
		t.data = make([]byte, n)
	}
	return t
}

// FromF32 wraps data, which the tensor then shares. It panics when the length
// does not match the shape: that is a programmer's error.
func FromF32(data []float32, shape ...int) *Tensor {
	if len(data) != count(shape) {
		panic(fmt.Sprintf("tensor: %d values for shape %v", len(data), append([]int(nil), shape...)))
	}
	return &Tensor{dtype: F32, shape: append([]int(nil), shape...), data: bytesOf(data)}
}

// SetF32 makes t what FromF32 returns, in the memory that t has: for a tensor that stands
// for one array after another.
func (t *Tensor) SetF32(data []float32, shape ...int) {
	if len(data) != count(shape) {
		panic(fmt.Sprintf("tensor: %d values for shape %v", len(data), append([]int(nil), shape...)))
	}
	*t = Tensor{dtype: F32, shape: append(t.shape[:0], shape...), data: bytesOf(data)}
}

// FromBytes wraps little-endian bytes without copying when they are aligned for
// the element type, and copies them when they are not.
func FromBytes(dtype DType, data []byte, shape ...int) (*Tensor, error) {
	n := count(shape)
	if len(data) != n*dtype.Size() {
		return nil, fmt.Errorf("tensor: %d bytes for %s %v, want %d", len(data), dtype, shape, n*dtype.Size())
	}
	if len(data) > 0 && uintptr(unsafe.Pointer(&data[0]))%uintptr(dtype.Size()) != 0 {
		t := NewOf(dtype, shape...)
		copy(t.data, data)
		return t, nil
	}
	return &Tensor{dtype: dtype, shape: append([]int(nil), shape...), data: data}, nil
}

func count(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

func bytesOf[T any](s []T) []byte {
	if len(s) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&s[0])), len(s)*int(unsafe.Sizeof(s[0])))
}

func sliceOf[T any](b []byte) []T {
	if len(b) == 0 {
		return nil
	}
	var z T
	return unsafe.Slice((*T)(unsafe.Pointer(&b[0])), len(b)/int(unsafe.Sizeof(z)))
}

// DType returns the element type.
func (t *Tensor) DType() DType { return t.dtype }

// Shape returns the dimensions; the caller must not change them.
func (t *Tensor) Shape() []int { return t.shape }

// Dim returns dimension i.
func (t *Tensor) Dim(i int) int { return t.shape[i] }

// Len returns the number of elements.
func (t *Tensor) Len() int { return len(t.data) / t.dtype.Size() }

// Bytes returns the raw little-endian storage, shared.
func (t *Tensor) Bytes() []byte { return t.data }

// F32 returns the elements of an f32 tensor, shared. It panics on another type.
func (t *Tensor) F32() []float32 {
	if t.dtype != F32 {
		panic("tensor: F32 of a " + t.dtype.String() + " tensor")
	}
	return sliceOf[float32](t.data)
}

// U16 returns the bit patterns of an f16 or bf16 tensor, shared. It panics on
// another type.
func (t *Tensor) U16() []uint16 {
	if t.dtype.Size() != 2 {
		panic("tensor: U16 of a " + t.dtype.String() + " tensor")
	}
	return sliceOf[uint16](t.data)
}

// ReadOnly reports whether the storage must not be written, as that of a mapped file.
func (t *Tensor) ReadOnly() bool { return t.fixed }

// SetReadOnly marks the storage as not to be written.
func (t *Tensor) SetReadOnly() { t.fixed = true }

// Reshape returns a view of the same storage under another shape with as many
// elements. It panics when the counts differ.
func (t *Tensor) Reshape(shape ...int) *Tensor {
	if count(shape) != t.Len() {
		panic(fmt.Sprintf("tensor: reshape %v to %v", t.shape, shape))
	}
	return &Tensor{dtype: t.dtype, shape: append([]int(nil), shape...), data: t.data, fixed: t.fixed}
}

// Rows returns a view of rows [lo, hi) of the first dimension.
func (t *Tensor) Rows(lo, hi int) *Tensor {
	row := len(t.data) / max(t.shape[0], 1)
	shape := append([]int{hi - lo}, t.shape[1:]...)
	return &Tensor{dtype: t.dtype, shape: shape, data: t.data[lo*row : hi*row], fixed: t.fixed}
}

// ReadF32 converts elements [off, off+len(dst)) to f32 into dst.
func (t *Tensor) ReadF32(dst []float32, off int) error {
	if off < 0 || off+len(dst) > t.Len() {
		return fmt.Errorf("tensor: read [%d, %d) of %d elements", off, off+len(dst), t.Len())
	}
	switch t.dtype {
	case F32:
		copy(dst, t.F32()[off:])
	case BF16:
		kernel.BF16ToF32(dst, t.U16()[off:off+len(dst)])
	case F16:
		kernel.F16ToF32(dst, t.U16()[off:off+len(dst)])
	case F64:
		for i, v := range sliceOf[float64](t.data)[off : off+len(dst)] {
			dst[i] = float32(v)
		}
	default:
		return fmt.Errorf("tensor: %s does not convert to f32", t.dtype)
	}
	return nil
}

// WriteF32 converts src to the tensor's type, rounding to nearest even, into
// elements [off, off+len(src)).
func (t *Tensor) WriteF32(src []float32, off int) error {
	if off < 0 || off+len(src) > t.Len() {
		return fmt.Errorf("tensor: write [%d, %d) of %d elements", off, off+len(src), t.Len())
	}
	switch t.dtype {
	case F32:
		copy(t.F32()[off:], src)
	case BF16:
		kernel.F32ToBF16(t.U16()[off:off+len(src)], src)
	case F16:
		kernel.F32ToF16(t.U16()[off:off+len(src)], src)
	case F64:
		dst := sliceOf[float64](t.data)[off:]
		for i, v := range src {
			dst[i] = float64(v)
		}
	default:
		return fmt.Errorf("tensor: f32 does not convert to %s", t.dtype)
	}
	return nil
}

// Float32s returns the elements as f32: shared when the tensor is f32, a fresh
// slice otherwise.
func (t *Tensor) Float32s() ([]float32, error) {
	if t.dtype == F32 {
		return t.F32(), nil
	}
	dst := make([]float32, t.Len())
	return dst, t.ReadF32(dst, 0)
}

// To returns the tensor converted to dtype: itself when it already has it, a
// fresh heap tensor otherwise. Only floating-point types convert.
func (t *Tensor) To(dtype DType) (*Tensor, error) {
	if t.dtype == dtype {
		return t, nil
	}
	out := NewOf(dtype, t.shape...)
	if dtype == F32 {
		return out, t.ReadF32(out.F32(), 0)
	}
	const chunk = 1 << 14 // conversion goes through a small f32 buffer
	var buf [chunk]float32
	for off := 0; off < t.Len(); off += chunk {
		b := buf[:min(chunk, t.Len()-off)]
		if err := t.ReadF32(b, off); err != nil {
			return nil, err
		}
		if err := out.WriteF32(b, off); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Clone returns a heap copy.
func (t *Tensor) Clone() *Tensor {
	out := NewOf(t.dtype, t.shape...)
	copy(out.data, t.data)
	return out
}

// FirstNonFinite returns the index of the first NaN or Inf of a floating-point
// tensor, or -1.
func (t *Tensor) FirstNonFinite() int {
	switch t.dtype {
	case F32, BF16, F16:
		if t.allFinite() {
			return -1
		}
	}
	switch t.dtype {
	case F32:
		return firstWithExponent(sliceOf[uint32](t.data), 0x7f800000)
	case BF16:
		return firstWithExponent(t.U16(), 0x7f80)
	case F16:
		return firstWithExponent(t.U16(), 0x7c00)
	case F64:
		for i, v := range sliceOf[float64](t.data) {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				return i
			}
		}
	}
	return -1
}

// allFinite looks at magnitudes on all cores: the largest is finite when all are.
func (t *Tensor) allFinite() bool {
	const chunk = 1 << 14
	var bad atomic.Bool
	kernel.Parallel(t.Len(), chunk, func(lo, hi int) {
		var wide []float32
		if t.dtype != F32 {
			wide = make([]float32, min(chunk, hi-lo))
		}
		for at := lo; at < hi && !bad.Load(); at += chunk {
			end := min(at+chunk, hi)
			v := wide
			if t.dtype == F32 {
				v = t.F32()[at:end]
			} else if v = wide[:end-at]; t.ReadF32(v, at) != nil {
				return // the range is within the tensor
			}
			if !(kernel.AbsMax(v) <= math.MaxFloat32) {
				bad.Store(true)
			}
		}
	})
	return !bad.Load()
}

// firstWithExponent finds the first pattern whose exponent bits are all ones.
func firstWithExponent[T uint16 | uint32](bits []T, mask T) int {
	for i, b := range bits {
		if b&mask == mask {
			return i
		}
	}
	return -1
}

// Operand returns the matrix [rows, cols] as a GEMM operand, where all
// dimensions but the last count as rows.
func (t *Tensor) Operand(trans bool) kernel.Operand {
	o := kernel.Operand{LD: t.shape[len(t.shape)-1], Trans: trans}
	switch t.dtype {
	case F32:
		o.F32 = t.F32()
	case BF16:
		o.BF16 = t.U16()
	case F16:
		o.F16 = t.U16()
	default:
		panic("tensor: no GEMM over " + t.dtype.String())
	}
	return o
}

// I64 returns the elements of an I64 tensor, shared. It panics on another type.
func (t *Tensor) I64() []int64 {
	if t.dtype != I64 {
		panic("tensor: I64 of a " + t.dtype.String() + " tensor")
	}
	return sliceOf[int64](t.data)
}

// BytesOfU16 returns the bytes behind bit patterns, shared.
func BytesOfU16(s []uint16) []byte { return bytesOf(s) }
