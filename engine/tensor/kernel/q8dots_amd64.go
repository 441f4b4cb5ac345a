package kernel

import "golang.org/x/sys/cpu"

type (
	q8Dots256 func(out *float32, ldo, n int, codes *byte, stride int, scales *uint16, zeros *byte, groups, blocks, perGroup int, x *int8, grid *float32)
	q8Dots512 func(out *float32, ldo, n int, codes *byte, stride int, scales *uint16, zeros *byte, groups, blocks, perGroup int, x *int8, grid *float32, places *int32)
)

// The kernels by rows less one.
var (
	q8WideTable = [...]q8Dots512{q8Wide1x512, q8Wide2x512, q8Wide3x512, q8Wide4x512, q8Wide5x512, q8Wide6x512, q8Wide7x512, q8Wide8x512}
	q8Table256  = [...]q8Dots256{q8Dots1x256, q8Dots2x256, q8Dots3x256, q8Dots4x256}
	q8Table512  = [...]q8Dots512{q8Dots1x512, q8Dots2x512, q8Dots3x512, q8Dots4x512, q8Dots5x512, q8Dots6x512, q8Dots7x512, q8Dots8x512}
)

// useVNNI says whether bytes are multiplied by AVX-512's own instruction; without it the
// AVX2 kernels do it.
func useVNNI() bool { return useAVX512 && cpu.X86.HasAVX512VNNI }

// tileRows8 is the most rows that are multiplied at once.
func tileRows8() int {
	if useVNNI() {
		return len(q8Table512)
	}
	return len(q8Table256)
}

func roundGroup(dst []int8, x []float32, place, hop int, grid []float32) {
	_ = grid[gridGroups]
	switch {
	case useAVX512:
		q8Round512(&dst[0], &x[0], len(x)/q4Block, place, hop, &grid[0])
	case useAVX2:
		q8Round256(&dst[0], &x[0], len(x)/q4Block, place, hop, &grid[0])
	default:
		roundGroupGo(dst, x, place, hop, grid)
	}
}

// dotTile is dotTileGo on the code path in use.
func (a *rows8) dotTile(c []float32, ldc, lo, hi int, codes []int8, grid []float32, rows int, w *byteDots) {
	switch {
	case useVNNI():
		table := &q8Table512
		if w.wide {
			table = &q8WideTable
		}
		table[rows-1](&c[lo], 4*ldc, hi-lo, &w.codes[lo*w.stride], w.stride, &w.scales[lo*w.groups], &w.zeros[lo*w.groups],
			w.groups, w.blocks(), a.perGroup, &codes[0], &grid[0], &a.places[0])
	case !w.wide && (useAVX512 || useAVX2):
		q8Table256[rows-1](&c[lo], 4*ldc, hi-lo, &w.codes[lo*w.stride], w.stride, &w.scales[lo*w.groups], &w.zeros[lo*w.groups],
			w.groups, w.blocks(), a.perGroup, &codes[0], &grid[0])
	default:
		a.dotTileGo(c, ldc, lo, hi, codes, grid, rows, w)
	}
}
