// Package tensor holds dense arrays: an element type, a shape, and the bytes
// behind them, on the heap or mapped from a file. Arrays are contiguous and
// row-major; a transpose is a flag on a kernel's operand, never a copy.
//
// Arithmetic lives elsewhere: vector and matrix kernels in tensor/kernel,
// operations with gradients in grad.
package tensor

import (
	"fmt"
	"strings"
)

// DType is the element type of a Tensor. The names returned by String are those
// of the safetensors format.
type DType uint8

// The element types that checkpoints carry. Compute is in F32; F16 and BF16 are
// storage types that kernels widen as they read.
const (
	F32 DType = iota
	F16
	BF16
	F64
	I64
	I32
	I16
	I8
	U64
	U32
	U16
	U8
	Bool
)

var dtypeNames = [...]string{"F32", "F16", "BF16", "F64", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL"}
var dtypeSizes = [...]int{4, 2, 2, 8, 8, 4, 2, 1, 8, 4, 2, 1, 1}

// String returns the safetensors name of d, such as "BF16".
func (d DType) String() string {
	if int(d) < len(dtypeNames) {
		return dtypeNames[d]
	}
	return fmt.Sprintf("DType(%d)", uint8(d))
}

// Size returns the bytes one element takes.
func (d DType) Size() int { return dtypeSizes[d] }

// IsFloat reports whether d is a floating-point type that converts to f32.
func (d DType) IsFloat() bool { return d <= F64 }

// ParseDType reads a safetensors name or the torch name of the same type
// ("float32", "bfloat16", …), in any case.
func ParseDType(s string) (DType, error) {
	switch strings.ToLower(strings.TrimPrefix(s, "torch.")) {
	case "float32", "float":
		return F32, nil
	case "float16", "half":
		return F16, nil
	case "bfloat16":
		return BF16, nil
	case "float64", "double":
		return F64, nil
	}
	for i, name := range dtypeNames {
		if strings.EqualFold(s, name) {
			return DType(i), nil
		}
	}
	return 0, fmt.Errorf("tensor: unknown dtype %q (known: %s)", s, strings.Join(dtypeNames[:], ", "))
}
