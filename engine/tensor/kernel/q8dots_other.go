//go:build !amd64

package kernel

func useVNNI() bool { return false }

func tileRows8() int { return 4 }

func roundGroup(dst []int8, x []float32, place, hop int, grid []float32) {
	roundGroupGo(dst, x, place, hop, grid)
}

func (a *rows8) dotTile(c []float32, ldc, lo, hi int, codes []int8, grid []float32, rows int, w *byteDots) {
	a.dotTileGo(c, ldc, lo, hi, codes, grid, rows, w)
}
