package kernel

import "unsafe"

type dotsFunc func(out, x *float32, ldx int, b *byte, k int)

// dotsTable holds the kernels by storage (F32, BF16, F16) for one, two and four rows.
var dotsTable = [2][3][3]dotsFunc{
	{{dotsF321256, dotsF322256, dotsF324256}, {dotsBF161256, dotsBF162256, dotsBF164256}, {dotsF161256, dotsF162256, dotsF164256}},
	{{dotsF321512, dotsF322512, dotsF324512}, {dotsBF161512, dotsBF162512, dotsBF164512}, {dotsF161512, dotsF162512, dotsF164512}},
}

type dotsQ4Func func(out, x *float32, ldx int, codes *byte, scales *uint16, zeros *byte, blocks, perGroup int)

var dotsQ4Table = [2][3]dotsQ4Func{
	{dotsQ4x1256, dotsQ4x2256, dotsQ4x4256},
	{dotsQ4x1512, dotsQ4x2512, dotsQ4x4512},
}

func isaIndex() int {
	if useAVX512 {
		return 1
	}
	return 0
}

// dots sets y[r], at most four, to the product of row r of x with the k elements of
// b's storage from at on; k is a positive multiple of 16.
func dots(y, x []float32, ldx int, b *Operand, at, k int) {
	var table *[3]dotsFunc
	var p *byte
	switch {
	case b.F32 != nil:
		table, p = &dotsTable[isaIndex()][0], (*byte)(unsafe.Pointer(&b.F32[at]))
	case b.BF16 != nil:
		table, p = &dotsTable[isaIndex()][1], (*byte)(unsafe.Pointer(&b.BF16[at]))
	default:
		table, p = &dotsTable[isaIndex()][2], (*byte)(unsafe.Pointer(&b.F16[at]))
	}
	for r := 0; r < len(y); {
		i, n := rowsAtOnce(len(y) - r)
		table[i](&y[r], &x[r*ldx], 4*ldx, p, k)
		r += n
	}
}

type rowsFunc func(out *float32, ldo, n int, x *float32, ldx int, b *byte, ldb, k int)

// rowsTable holds the kernels by storage for five to eight rows.
var rowsTable = [2][3][4]rowsFunc{
	{{rowsF325256, rowsF326256, rowsF327256, rowsF328256}, {rowsBF165256, rowsBF166256, rowsBF167256, rowsBF168256}, {rowsF165256, rowsF166256, rowsF167256, rowsF168256}},
	{{rowsF325512, rowsF326512, rowsF327512, rowsF328512}, {rowsBF165512, rowsBF166512, rowsBF167512, rowsBF168512}, {rowsF165512, rowsF166512, rowsF167512, rowsF168512}},
}

// rowTile sets c[r, j] to the product of row r of x, of five to eight rows ldx apart, with
// the k elements of b's storage from at + j·b.LD on; k is a positive multiple of 16.
func rowTile(c []float32, ldc, n int, x []float32, ldx, rows int, b *Operand, at, k int) {
	_, _ = c[(rows-1)*ldc+n-1], x[(rows-1)*ldx+k-1]
	storage, size := 0, 2
	var p *byte
	switch {
	case b.F32 != nil:
		size, p = 4, (*byte)(unsafe.Pointer(&b.F32[at]))
	case b.BF16 != nil:
		storage, p = 1, (*byte)(unsafe.Pointer(&b.BF16[at]))
	default:
		storage, p = 2, (*byte)(unsafe.Pointer(&b.F16[at]))
	}
	rowsTable[isaIndex()][storage][rows-rowTileLeast](&c[0], 4*ldc, n, &x[0], 4*ldx, p, size*b.LD, k)
}

// rowsAtOnce returns the largest kernel for n rows: its index and its rows.
func rowsAtOnce(n int) (index, rows int) {
	switch {
	case n >= 4:
		return 2, 4
	case n >= 2:
		return 1, 2
	}
	return 0, 1
}

// dotsQ4 is dots for a row of 4-bit codes in whole blocks.
func dotsQ4(y, x []float32, ldx int, codes []byte, scales []uint16, zeros []uint8, blocks, perGroup int) {
	table := &dotsQ4Table[isaIndex()]
	for r := 0; r < len(y); {
		i, n := rowsAtOnce(len(y) - r)
		table[i](&y[r], &x[r*ldx], 4*ldx, &codes[0], &scales[0], &zeros[0], blocks, perGroup)
		r += n
	}
}

// unpack writes blocks of 32 codes of one group to dst.
func unpack(dst []float32, codes []byte, scale float32, zero int32, blocks int) {
	_, _ = dst[blocks*q4Block-1], codes[blocks*q4Block/2-1]
	if useAVX512 {
		unpackQ4x512(&dst[0], &codes[0], scale, zero, blocks)
	} else {
		unpackQ4x256(&dst[0], &codes[0], scale, zero, blocks)
	}
}

// packQ4 is PackQ4 for whole blocks on the path that has it; false elsewhere.
func packQ4(codes []byte, w []float32, scale float32, zero int32) bool {
	if !useAVX512 {
		return false
	}
	packQ4x512(&codes[0], &w[0], scale, zero, len(w)/q4Block)
	return true
}
