package kernel

var shape512 = &tileShape{
	rows: 14, cols: 32, lanes: 16, transpose: transpose16,
	row: []func(*byte){tileRow1x32, tileRow2x32, tileRow3x32, tileRow4x32, tileRow5x32, tileRow6x32, tileRow7x32,
		tileRow8x32, tileRow9x32, tileRow10x32, tileRow11x32, tileRow12x32, tileRow13x32, tileRow14x32},
	col: []func(*byte){tileCol1x32, tileCol2x32, tileCol3x32, tileCol4x32, tileCol5x32, tileCol6x32, tileCol7x32,
		tileCol8x32, tileCol9x32, tileCol10x32, tileCol11x32, tileCol12x32, tileCol13x32, tileCol14x32},
}

var shape256 = &tileShape{
	rows: 6, cols: 16, lanes: 8, transpose: transpose8,
	row: []func(*byte){tileRow1x16, tileRow2x16, tileRow3x16, tileRow4x16, tileRow5x16, tileRow6x16},
	col: []func(*byte){tileCol1x16, tileCol2x16, tileCol3x16, tileCol4x16, tileCol5x16, tileCol6x16},
}

// shape returns the micro-kernels of the code path in use.
func shape() *tileShape {
	switch {
	case useAVX512:
		return shape512
	case useAVX2:
		return shape256
	}
	return shapeGo
}
