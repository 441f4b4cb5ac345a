package kernel

import (
	"math"
)

// MulInt8 computes C = X·Wᵀ for X [m, k] in f32, rows ldx apart, and W [n, k] in 4-bit
// groups, C [m, n] with rows ldc apart, in products of 8-bit integers. Each row of X is
// rounded in W's groups first,
//
//	x[i, p] ≈ scale[i, g] · a[i, p],  scale = max|x|/127 in the group,  a = round(x/scale)
//
// so that a group contributes an integer sum, and sums of groups are added in f32:
//
//	c[i, j] = Σ_g w.scale[j, g]·scale[i, g] · (Σ_p code[j, p]·a[i, p] − zero[j, g]·Σ_p a[i, p])
//
// An element's bits depend neither on the other rows nor on the number of threads. A
// number that is not finite makes its row's results not finite.
func MulInt8(c []float32, ldc, m, n, k int, x []float32, ldx int, w *Q4) {
	mulInt8("MulInt8", c, ldc, m, n, k, x, ldx, w.Rows, w.Cols, &byteDots{codes: w.Codes, stride: w.Stride(), scales: w.Scales, zeros: w.Zeros, groups: w.Groups(), group: w.Group})
}

// byteDots is what the kernels know of a matrix of codes: 4-bit ones, or with wide a byte
// each.
type byteDots struct {
	codes         []byte
	stride        int // bytes of a row
	scales        []uint16
	zeros         []uint8
	groups, group int
	wide          bool
}

// blocks is how many blocks of 32 columns a row has.
func (w *byteDots) blocks() int {
	if w.wide {
		return w.stride / q4Block
	}
	return w.stride / (q4Block / 2)
}

// halves returns the sixteen codes of either half of block b of a row.
func (w *byteDots) halves(row []byte, b int) (first, second [16]byte) {
	if w.wide {
		u := b / unitBlocks * unitBlocks
		at := u*q4Block + (b-u)*16
		copy(first[:], row[at:])
		copy(second[:], row[at+16*min(unitBlocks, w.blocks()-u):])
		return first, second
	}
	for p, v := range row[b*16 : (b+1)*16] {
		first[p], second[p] = v&15, v>>4
	}
	return first, second
}

// mulInt8 is the product of MulInt8, or of what name says, with codes of either width of a
// matrix of rows by cols.
func mulInt8(name string, c []float32, ldc, m, n, k int, x []float32, ldx, rows, cols int, w *byteDots) {
	if m <= 0 || n <= 0 || k <= 0 {
		for i := range m {
			clear(c[i*ldc : i*ldc+max(n, 0)])
		}
		return
	}
	_, _ = c[(m-1)*ldc+n-1], x[(m-1)*ldx+k-1]
	if k != cols || n > rows {
		panic("kernel: " + name + " of another shape than its weight's")
	}
	a := rows8s.take()
	defer rows8s.put(a)
	a.round(x, ldx, m, k, w.group)
	// Codes that stay in the second-level cache while all rows pass over them.
	const held = 1 << 16
	step := max(1, held/w.stride)
	type operands struct {
		a         *rows8
		c         []float32
		ldc, step int
		w         byteDots
	}
	Spread(n, max(1, (1<<16)/k), operands{a, c, ldc, step, *w}, func(o *operands, lo, hi int) {
		for ; lo < hi; lo += o.step {
			o.a.dots(o.c, o.ldc, lo, min(hi, lo+o.step), &o.w)
		}
	})
}

const (
	unitBlocks = 4  // blocks of codes that fill the widest register
	gridGroups = 16 // groups whose scales do
)

// rows8 is a matrix rounded to 8 bits, in tiles of up to tile rows as the kernels read
// them; gen/q8.go knows the layout. A unit holds four blocks of 32 columns of every row
// of a tile: for each row the first halves of the blocks, then the second halves. A grid
// holds sixteen groups of every row of a tile: for each row the scales, then −Σ a.
type rows8 struct {
	m, k, group   int
	tile          int
	units, chunks int // of a row
	codes         []int8
	grid          []float32
	// places says for every 32-bit lane of a unit which of sixteen groups its block
	// belongs to, over as many units as it takes to come back to the first.
	places   []int32
	perGroup int // that places is for
}

var rows8s = stock[rows8]{make: func() *rows8 { return new(rows8) }}

func (a *rows8) round(x []float32, ldx, m, k, group int) {
	a.m, a.k, a.group, a.tile = m, k, group, tileRows8()
	a.units = (k + unitBlocks*q4Block - 1) / (unitBlocks * q4Block)
	groups := (k + group - 1) / group
	a.chunks = (groups + gridGroups - 1) / gridGroups
	if n := m * a.units * unitBlocks * q4Block; cap(a.codes) < n {
		a.codes = make([]int8, n)
	}
	a.codes = a.codes[:cap(a.codes)]
	sized(&a.grid, m*a.chunks*2*gridGroups)
	if perGroup := group / q4Block; a.perGroup != perGroup {
		a.perGroup = perGroup
		a.places = make([]int32, gridGroups*group/q4Block*4)
		for i := range a.places {
			a.places[i] = int32(i / 4 / perGroup)
		}
	}
	type operands struct {
		a      *rows8
		x      []float32
		ldx, k int
	}
	Spread(m, max(1, (1<<13)/k), operands{a, x, ldx, k}, func(o *operands, lo, hi int) {
		for i := lo; i < hi; i++ {
			o.a.roundRow(o.x[i*o.ldx:i*o.ldx+o.k], i)
		}
	})
}

// at returns where the first unit and the first grid of row i are, and how many rows its
// tile has.
func (a *rows8) at(i int) (code, grid, rows int) {
	first := i / a.tile * a.tile
	rows = min(a.tile, a.m-first)
	code = (first*a.units + i - first) * unitBlocks * q4Block
	return code, (first*a.chunks + i - first) * 2 * gridGroups, rows
}

func (a *rows8) roundRow(x []float32, i int) {
	code, grid, rows := a.at(i)
	hop := rows * unitBlocks * q4Block
	for c := range a.chunks {
		clear(a.grid[grid+c*rows*2*gridGroups:][:2*gridGroups])
	}
	var padded [q4Block]float32
	for g, block := 0, 0; len(x) > 0; g++ {
		n := min(a.group, len(x))
		out := a.grid[grid+g/gridGroups*rows*2*gridGroups+g%gridGroups:]
		dst := a.codes[code+block/unitBlocks*hop+block%unitBlocks*16:]
		switch whole := n &^ (q4Block - 1); {
		case whole == n:
			roundGroup(dst, x[:n], block%unitBlocks, hop, out)
		case whole == 0:
			copy(padded[:], x[:n])
			roundGroup(dst, padded[:], block%unitBlocks, hop, out)
		default:
			full := append(append(make([]float32, 0, whole+q4Block), x[:n]...), padded[:whole+q4Block-n]...)
			roundGroup(dst, full, block%unitBlocks, hop, out)
		}
		block += (n + q4Block - 1) / q4Block
		x = x[n:]
	}
}

// tinyGroup is the size below which a group's numbers count as zero: 127 over it is still
// a number.
const tinyGroup = 0x1p-120

// roundGroupGo rounds whole blocks x of one group to dst, the first of which stands at a
// place in its unit, and sets grid[0] to the scale and grid[16] to −Σ a.
func roundGroupGo(dst []int8, x []float32, place, hop int, grid []float32) {
	var top float32
	for _, v := range x {
		if !(float32(math.Abs(float64(v))) <= top) {
			top = float32(math.Abs(float64(v)))
		}
		if top != top {
			break
		}
	}
	var inverse float32
	grid[0] = 0
	if !(top < tinyGroup) {
		grid[0], inverse = top/127, 127/top
	}
	sum, at := 0, 0
	for b := range len(x) / q4Block {
		for j, v := range x[b*q4Block : (b+1)*q4Block] {
			var r int
			if s := v * inverse; s == s {
				r = int(math.RoundToEven(float64(s)))
			}
			dst[at+j/16*64+j%16] = int8(r)
			sum += r
		}
		at += 16
		if place++; place == unitBlocks {
			place, at = 0, at+hop-64
		}
	}
	grid[gridGroups] = float32(-sum)
}

// dots multiplies all rows with rows [lo, hi) of w.
func (a *rows8) dots(c []float32, ldc, lo, hi int, w *byteDots) {
	for i := 0; i < a.m; i += a.tile {
		code, grid, rows := a.at(i)
		a.dotTile(c[i*ldc:], ldc, lo, hi, a.codes[code:], a.grid[grid:], rows, w)
	}
}

// dotTileGo sets c[r, j] for the rows of one tile and rows [lo, hi) of w.
func (a *rows8) dotTileGo(c []float32, ldc, lo, hi int, codes []int8, grid []float32, rows int, w *byteDots) {
	blocks := w.blocks()
	for j := lo; j < hi; j++ {
		packed := w.codes[j*w.stride : (j+1)*w.stride]
		for r := range rows {
			var total float32
			for g := range w.groups {
				sum := 0
				for b := g * a.perGroup; b < min((g+1)*a.perGroup, blocks); b++ {
					x := codes[(b/unitBlocks*rows+r)*unitBlocks*q4Block+b%unitBlocks*16:]
					first, second := w.halves(packed, b)
					for p := range first {
						sum += int(first[p])*int(x[p]) + int(second[p])*int(x[64+p])
					}
				}
				at := grid[(g/gridGroups*rows+r)*2*gridGroups+g%gridGroups:]
				scale := halfToFloat(w.scales[j*w.groups+g]) * at[0]
				total += scale * (float32(sum) + float32(w.zeros[j*w.groups+g])*at[gridGroups])
			}
			c[r*ldc+j] = total
		}
	}
}
