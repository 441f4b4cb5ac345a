package kernel

// Bytes is a matrix [Rows, Cols] rounded to 8 bits in groups of 64 along a row, for
// products with rows rounded likewise:
//
//	w[r, c] ≈ (code[r, c] − 128) · scale[r, g],  g = c / 64,  scale = max|w|/127 in the group
//
// It halves what reading a bfloat16 matrix costs, at an error of half a step of 1/127 of
// a group's largest entry.
type Bytes struct {
	Rows, Cols int
	w          byteDots
}

// bytesGroup is how many columns of Bytes share a scale.
const bytesGroup = 64

// HasBytes reports whether the code path in use multiplies Bytes at memory's speed.
// Elsewhere products of them are right, and slow.
func HasBytes() bool { return useVNNI() }

// NewBytes rounds a stored matrix [rows, cols]. It returns nil where a group is too large
// for an f16 scale.
func NewBytes(rows, cols int, from Operand) *Bytes {
	groups := (cols + bytesGroup - 1) / bytesGroup
	blocks := (cols + q4Block - 1) / q4Block
	b := &Bytes{Rows: rows, Cols: cols, w: byteDots{stride: blocks * q4Block, groups: groups, group: bytesGroup, wide: true}}
	b.w.codes = make([]byte, rows*b.w.stride)
	b.w.scales, b.w.zeros = make([]uint16, rows*groups), make([]uint8, rows*groups)
	for i := range b.w.zeros {
		b.w.zeros[i] = 128
	}
	Parallel(rows, 1+(1<<13)/max(cols, 1), func(lo, hi int) {
		units := (blocks + unitBlocks - 1) / unitBlocks
		row, codes, grid := make([]float32, blocks*q4Block), make([]int8, units*unitBlocks*q4Block), make([]float32, gridGroups+1)
		for r := lo; r < hi; r++ {
			from.read(row[:cols], r, 0)
			for g := range groups {
				at := g * bytesGroup / q4Block
				part := row[g*bytesGroup : min((g+1)*bytesGroup, len(row))]
				roundGroup(codes[at/unitBlocks*unitBlocks*q4Block+at%unitBlocks*16:], part, at%unitBlocks, unitBlocks*q4Block, grid)
				b.w.scales[r*groups+g] = floatToHalf(grid[0])
			}
			// A last unit of fewer blocks is stored without the gap between its halves.
			out := b.w.codes[r*b.w.stride : (r+1)*b.w.stride]
			for u := range units {
				half := 16 * min(unitBlocks, blocks-u*unitBlocks)
				for i := range half {
					out[u*unitBlocks*q4Block+i] = byte(codes[u*unitBlocks*q4Block+i]) ^ 128
					out[u*unitBlocks*q4Block+half+i] = byte(codes[u*unitBlocks*q4Block+64+i]) ^ 128
				}
			}
		}
	})
	for _, s := range b.w.scales {
		if s&0x7c00 == 0x7c00 {
			return nil
		}
	}
	return b
}

// Size is the number of bytes that a product reads.
func (b *Bytes) Size() int64 {
	return int64(len(b.w.codes) + 2*len(b.w.scales) + len(b.w.zeros))
}

// MulBytes is MulInt8 with a matrix W [n, k] of 8 bits.
func MulBytes(c []float32, ldc, m, n, k int, x []float32, ldx int, w *Bytes) {
	mulInt8("MulBytes", c, ldc, m, n, k, x, ldx, w.Rows, w.Cols, &w.w)
}
