// Package kernel is the narrow set of numeric loops that everything else runs
// on: matrix products, vector arithmetic, activations, norms, optimizer updates
// and storage conversions, all on plain slices. It is chosen at start-up by what
// the processor offers (AVX-512, AVX2, portable Go); TARE_KERNEL=avx512, avx2 or
// portable forces one.
//
// It knows nothing of tensors, tapes or models. What runs inside a forward pass
// never calls it directly: it uses grad and nn, so that a second device can attach
// here.
package kernel

//go:generate sh -c "cd gen && for part in gemm gemv rows q8 pack vector math norm convert optimizer; do go run . ${DOLLAR}part; done"

// Operand is a matrix as it lies in memory, one of four storages. Rows are LD
// elements apart. Trans means that the stored matrix is the transpose of the one
// meant: B [k,n] stored as [n,k].
type Operand struct {
	F32   []float32
	BF16  []uint16
	F16   []uint16
	Q4    *Q4 // its own strides; LD is unused
	LD    int
	Trans bool
}

// Q4 is a matrix [Rows, Cols] quantized to 4 bits in groups along a row:
//
//	w[r, c] = (code[r, c] − zero[r, g]) · scale[r, g],  g = c / Group
//
// Codes are stored 32 columns to 16 bytes: byte j of a block holds column j in
// its low nibble and column j+16 in its high nibble; a row's last block is padded
// with zeros. Group is a multiple of 32; a row's last group may be shorter.
type Q4 struct {
	Rows, Cols, Group int
	Codes             []byte   // [Rows, ceil(Cols/32)·16]
	Scales            []uint16 // f16, [Rows, ceil(Cols/Group)]
	Zeros             []uint8  // 0 to 15, [Rows, ceil(Cols/Group)]
}

// GemmOptions says what a matrix product does beside C = A·B. The zero value is
// plain assignment.
type GemmOptions struct {
	Accumulate bool      // add to C instead of overwriting it
	Alpha      float32   // scale of the product; 0 means 1
	Bias       []float32 // [n], added to every row; nil for none
	// BF16 rounds both operands to bfloat16 and sums their products in f32, which some
	// processors do at twice the rate.
	BF16 bool
}
