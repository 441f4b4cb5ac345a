package kernel

import "golang.org/x/sys/cpu"

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

var shapePairs = &tileShape{
	rows: 14, cols: 32, lanes: 16, transpose: transpose16, pairs: true,
	row: []func(*byte){tileRow1x32Pairs, tileRow2x32Pairs, tileRow3x32Pairs, tileRow4x32Pairs, tileRow5x32Pairs, tileRow6x32Pairs, tileRow7x32Pairs,
		tileRow8x32Pairs, tileRow9x32Pairs, tileRow10x32Pairs, tileRow11x32Pairs, tileRow12x32Pairs, tileRow13x32Pairs, tileRow14x32Pairs},
	col: []func(*byte){tileCol1x32Pairs, tileCol2x32Pairs, tileCol3x32Pairs, tileCol4x32Pairs, tileCol5x32Pairs, tileCol6x32Pairs, tileCol7x32Pairs,
		tileCol8x32Pairs, tileCol9x32Pairs, tileCol10x32Pairs, tileCol11x32Pairs, tileCol12x32Pairs, tileCol13x32Pairs, tileCol14x32Pairs},
}

// shape returns the micro-kernels of the code path in use, for operands in bfloat16
// those that the processor multiplies in pairs, if it can.
func shape(bf16 bool) *tileShape {
	switch {
	case useAVX512 && bf16 && cpu.X86.HasAVX512BF16:
		return shapePairs
	case useAVX512:
		return shape512
	case useAVX2:
		return shape256
	}
	return shapeGo
}

// pairRows rounds two rows to bfloat16 and writes them as pairs.
func pairRows(dst, low, high []float32) { pairRows512(&dst[0], &low[0], &high[0], len(dst)) }
