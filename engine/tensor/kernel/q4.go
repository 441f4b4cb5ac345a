package kernel

import (
	"fmt"
	"math"
)

// q4Block is how many columns share 16 bytes of codes.
const q4Block = 32

// NewQ4 returns a matrix of zeros.
func NewQ4(rows, cols, group int) *Q4 {
	q := &Q4{Rows: rows, Cols: cols, Group: group}
	q.Codes = make([]byte, rows*q.Stride())
	q.Scales, q.Zeros = make([]uint16, rows*q.Groups()), make([]uint8, rows*q.Groups())
	return q
}

// Stride is the number of code bytes in a row.
func (q *Q4) Stride() int { return (q.Cols + q4Block - 1) / q4Block * (q4Block / 2) }

// Groups is the number of groups in a row.
func (q *Q4) Groups() int { return (q.Cols + q.Group - 1) / q.Group }

// Check says whether the group size is valid and the slices fit the shape.
func (q *Q4) Check() error {
	if q.Rows < 0 || q.Cols < 0 {
		return fmt.Errorf("kernel: Q4 has a negative shape [%d, %d]", q.Rows, q.Cols)
	}
	if q.Group <= 0 || q.Group%q4Block != 0 {
		return fmt.Errorf("kernel: Q4 group is %d; it must be a positive multiple of %d", q.Group, q4Block)
	}
	if want := q.Rows * q.Stride(); len(q.Codes) != want {
		return fmt.Errorf("kernel: Q4 [%d, %d] has %d bytes of codes, want %d", q.Rows, q.Cols, len(q.Codes), want)
	}
	want := q.Rows * q.Groups()
	if len(q.Scales) != want {
		return fmt.Errorf("kernel: Q4 [%d, %d] in groups of %d has %d scales, want %d", q.Rows, q.Cols, q.Group, len(q.Scales), want)
	}
	if len(q.Zeros) != want {
		return fmt.Errorf("kernel: Q4 [%d, %d] in groups of %d has %d zeros, want %d", q.Rows, q.Cols, q.Group, len(q.Zeros), want)
	}
	return nil
}

// Row writes row r as float32 to dst, which holds at least Cols elements.
func (q *Q4) Row(dst []float32, r int) { q.rowPart(dst[:q.Cols], r, 0) }

// rowPart writes columns [col, col+len(dst)) of row r.
func (q *Q4) rowPart(dst []float32, r, col int) {
	if col%q4Block == 0 && (useAVX512 || useAVX2) {
		for len(dst) >= q4Block {
			g := r*q.Groups() + col/q.Group
			blocks := min(len(dst), (col/q.Group+1)*q.Group-col) / q4Block
			unpack(dst, q.Codes[r*q.Stride()+col/2:], halfToFloat(q.Scales[g]), int32(q.Zeros[g]), blocks)
			dst, col = dst[blocks*q4Block:], col+blocks*q4Block
		}
	}
	codes := q.Codes[r*q.Stride():]
	g0 := r * q.Groups()
	for i := range dst {
		c := col + i
		b := codes[c/q4Block*16+c%16]
		if c%q4Block >= 16 {
			b >>= 4
		}
		g := g0 + c/q.Group
		dst[i] = float32(int(b&15)-int(q.Zeros[g])) * halfToFloat(q.Scales[g])
	}
}

// dotQ4 sets y[r] to the product of row r of x, rows ldx apart, with row j of q. A
// group contributes scale·Σ (code − zero)·x.
func dotQ4(y, x []float32, ldx int, q *Q4, j, k int) {
	clear(y)
	codes, done := q.Codes[j*q.Stride():], 0
	if whole := k &^ (q4Block - 1); whole > 0 && (useAVX512 || useAVX2) {
		g0 := j * q.Groups()
		dotsQ4(y, x, ldx, codes, q.Scales[g0:], q.Zeros[g0:], whole/q4Block, q.Group/q4Block)
		done = whole
	}
	for g := done / q.Group; done < k; g++ {
		to := min(k, (g+1)*q.Group)
		scale, zero := halfToFloat(q.Scales[j*q.Groups()+g]), int(q.Zeros[j*q.Groups()+g])
		for r := range y {
			var sum float32
			for c := done; c < to; c++ {
				b := codes[c/q4Block*16+c%16]
				if c%q4Block >= 16 {
					b >>= 4
				}
				sum += float32(int(b&15)-zero) * x[r*ldx+c]
			}
			y[r] += scale * sum
		}
		done = to
	}
}

// Pack rounds the values of one group to codes, w[c] → round(w[c]/scale) + zero to
// nearest even, kept within 0 to 15, and stores them in row r from column col, which is
// a multiple of 32, on. A last block of fewer than 32 columns is the row's last. A scale
// of zero gives the zero point.
func (q *Q4) Pack(r, col int, w []float32, scale float32, zero int) {
	codes := q.Codes[r*q.Stride()+col/2:]
	if scale == 0 {
		scale = float32(math.Inf(1))
	}
	if whole := len(w) &^ (q4Block - 1); whole > 0 && packQ4(codes[:whole/2], w[:whole], scale, int32(zero)) {
		codes, w = codes[whole/2:], w[whole:]
	}
	for i, v := range w {
		c := min(15, max(0, int(math.RoundToEven(float64(v/scale)))+zero))
		at := &codes[i/q4Block*16+i%16]
		if i%q4Block < 16 {
			*at = *at&0xf0 | byte(c)
		} else {
			*at = *at&0x0f | byte(c)<<4
		}
	}
}
