package kernel

import "unsafe"

// The portable micro-kernels: a tile of 4 × 4 whose sums stay in registers.
const rowsGo, colsGo = 4, 4

var shapeGo = &tileShape{rows: rowsGo, cols: colsGo, lanes: 1, row: tilesGo(false), col: tilesGo(true)}

func tilesGo(columns bool) []func(*byte) {
	fs := make([]func(*byte), rowsGo)
	for i := range fs {
		fs[i] = func(p *byte) { tileGo((*tile)(unsafe.Pointer(p)), i+1, columns) }
	}
	return fs
}

// tileGo computes what t says for the given number of rows, as the assembly does:
// sums over k in order, then alpha, bias, C. Rows that do not exist repeat the
// first.
func tileGo(t *tile, rows int, columns bool) {
	const size = 4
	rowStep, kStep := t.lda, size
	if columns {
		rowStep, kStep = size, t.lda
	}
	var a [rowsGo]unsafe.Pointer
	for r := range a {
		a[r] = t.a
		if r < rows {
			a[r] = unsafe.Add(t.a, r*rowStep)
		}
	}
	var c00, c01, c02, c03, c10, c11, c12, c13, c20, c21, c22, c23, c30, c31, c32, c33 float32
	at, bAt := 0, 0
	for range t.k {
		p := (*[colsGo]float32)(unsafe.Add(t.b, bAt))
		b0, b1, b2, b3 := p[0], p[1], p[2], p[3]
		x := *(*float32)(unsafe.Add(a[0], at))
		c00, c01, c02, c03 = c00+x*b0, c01+x*b1, c02+x*b2, c03+x*b3
		x = *(*float32)(unsafe.Add(a[1], at))
		c10, c11, c12, c13 = c10+x*b0, c11+x*b1, c12+x*b2, c13+x*b3
		x = *(*float32)(unsafe.Add(a[2], at))
		c20, c21, c22, c23 = c20+x*b0, c21+x*b1, c22+x*b2, c23+x*b3
		x = *(*float32)(unsafe.Add(a[3], at))
		c30, c31, c32, c33 = c30+x*b0, c31+x*b1, c32+x*b2, c33+x*b3
		at += kStep
		bAt += t.ldb
	}
	sums := [rowsGo][colsGo]float32{{c00, c01, c02, c03}, {c10, c11, c12, c13}, {c20, c21, c22, c23}, {c30, c31, c32, c33}}
	cols := colsGo - t.cut
	o := GemmOptions{Accumulate: t.accumulate != 0, Alpha: t.alpha}
	if t.bias != nil {
		o.Bias = unsafe.Slice((*float32)(t.bias), cols)
	}
	for r := range rows {
		finish(unsafe.Slice((*float32)(unsafe.Add(t.c, r*t.ldc)), cols), sums[r][:cols], o)
	}
}
