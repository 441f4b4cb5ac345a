// Package checkpoint reads and writes weights on disk: safetensors files, Hugging
// Face model folders with their shards, and PEFT adapter folders. Reading maps files
// and copies nothing; writing streams tensor by tensor and is atomic: what stands
// under the final name is whole.
//
// What the tensors mean is the model package's affair.
package checkpoint

import (
	"errors"
	"fmt"
	"strconv"

	"tare/engine/tensor"
)

// Errors that callers tell apart with errors.Is.
var (
	// ErrFormat marks a file that is malformed, truncated or lies about itself.
	ErrFormat = errors.New("checkpoint: malformed file")
	// ErrMissing marks a tensor, shard or part that should be there and is not.
	ErrMissing = errors.New("checkpoint: missing")
	// ErrNonFinite marks weights that hold NaN or Inf.
	ErrNonFinite = errors.New("checkpoint: weights are not finite")
)

// NamedTensor is a tensor under its name in a file.
type NamedTensor struct {
	Name   string
	Tensor *tensor.Tensor
}

// Info is what a file says of a tensor.
type Info struct {
	Name  string
	DType tensor.DType
	Shape []int
	Bytes int64  // size of the data
	File  string // name of the file that holds it, without its folder
}

// Spec announces a tensor that will be written.
type Spec struct {
	Name  string
	DType tensor.DType
	Shape []int
}

// kinded is an error of one of the kinds above whose text says all by itself.
type kinded struct {
	text string
	kind error
}

func (e *kinded) Error() string { return e.text }
func (e *kinded) Unwrap() error { return e.kind }

// malformed returns an ErrFormat about a file.
func malformed(file, format string, args ...any) error {
	return &kinded{"checkpoint: " + file + ": " + fmt.Sprintf(format, args...), ErrFormat}
}

// missing returns an ErrMissing about a file or folder.
func missing(file, format string, args ...any) error {
	return &kinded{"checkpoint: " + file + ": " + fmt.Sprintf(format, args...), ErrMissing}
}

// commas writes n with a comma at every thousand.
func commas[T int | int64 | uint64](n T) string {
	s := strconv.FormatInt(int64(n), 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
