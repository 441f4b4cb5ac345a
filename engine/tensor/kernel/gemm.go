package kernel

import (
	"math"
	"unsafe"
)

// Gemm computes C = Alpha·A·B (+ Bias) (+ C), C being [m, n] with rows ldc apart,
// A [m, k] and B [k, n] as their operands mean them, on all threads. The bits of
// the result depend neither on the number of threads nor on where in C an element
// lies: k is never split between threads.
func Gemm(c []float32, ldc, m, n, k int, a, b Operand, o GemmOptions) {
	multiply(c, ldc, m, n, k, a, b, o, Parallel)
}

// GemmSerial is Gemm on the calling goroutine, for use inside Parallel.
func GemmSerial(c []float32, ldc, m, n, k int, a, b Operand, o GemmOptions) {
	multiply(c, ldc, m, n, k, a, b, o, serial)
}

// splitter runs f on ranges that together are [0, n): Parallel or serial.
type splitter func(n, grain int, f func(lo, hi int))

func serial(n, grain int, f func(lo, hi int)) {
	if n > 0 {
		f(0, n)
	}
}

const (
	// kBlock is the most of k that one pass over C adds: a panel of B of that depth
	// stays in the first-level cache.
	kBlock = 256
	// packedMost bounds the floats of B that are packed at once, unless those are fewer
	// than packedColumns.
	packedMost    = 1 << 20
	packedColumns = 64
	// rowsDotted is the most rows of A for which reading B once, row by row, beats
	// packing it.
	rowsDotted = 8
)

func multiply(c []float32, ldc, m, n, k int, a, b Operand, o GemmOptions, split splitter) {
	if m <= 0 || n <= 0 {
		return
	}
	_ = c[(m-1)*ldc+n-1]
	a.check(m, k)
	b.check(k, n)
	if o.Bias != nil {
		o.Bias = o.Bias[:n]
	}
	if o.Alpha == 0 {
		o.Alpha = 1
	}
	if k == 0 {
		for i := range m {
			finish(c[i*ldc:i*ldc+n], nil, o)
		}
		return
	}
	g := products.take()
	g.factors = factors{c: c, ldc: ldc, m: m, n: n, k: k, a: a, b: b, o: o}
	if g.dotted() {
		split(n, g.dotGrain(), g.dotting)
	} else {
		g.s = shape(o.BF16)
		width := max(packedColumns, packedMost/k) / g.s.cols * g.s.cols
		for g.j0 = 0; g.j0 < n; g.j0 = g.j1 {
			g.j1 = min(n, g.j0+width)
			g.run(split)
		}
	}
	g.factors, g.packed = factors{}, nil // keep no pointer into the caller's memory
	products.put(g)
}

// check makes sure that the storage holds a matrix [rows, cols], so that a wrong
// shape is a panic here and not a stray read in assembly.
func (x *Operand) check(rows, cols int) {
	if x.Trans {
		rows, cols = cols, rows
	}
	if rows == 0 || cols == 0 {
		return
	}
	last := (rows-1)*x.LD + cols - 1
	switch {
	case x.F32 != nil:
		_ = x.F32[last]
	case x.BF16 != nil:
		_ = x.BF16[last]
	case x.F16 != nil:
		_ = x.F16[last]
	case x.Q4 != nil:
		if rows > x.Q4.Rows || cols > x.Q4.Cols {
			panic("kernel: Q4 operand is smaller than the product")
		}
	default:
		panic("kernel: operand without storage")
	}
}

// read widens len(dst) stored elements of row r from column col on.
func (x *Operand) read(dst []float32, r, col int) {
	at := r*x.LD + col
	switch {
	case x.F32 != nil:
		copy(dst, x.F32[at:at+len(dst)])
	case x.BF16 != nil:
		BF16ToF32(dst, x.BF16[at:at+len(dst)])
	case x.F16 != nil:
		F16ToF32(dst, x.F16[at:at+len(dst)])
	default:
		x.Q4.rowPart(dst, r, col)
	}
}

// finish writes one row of C from its sums, which are nil when k is zero.
func finish(out, sums []float32, o GemmOptions) {
	for j := range out {
		var s float32
		if sums != nil {
			s = sums[j] * o.Alpha
		}
		if o.Bias != nil {
			s += o.Bias[j]
		}
		if o.Accumulate {
			s += out[j]
		}
		out[j] = s
	}
}

// tileShape is a micro-kernel family: each function computes a block of C of up
// to rows × cols, row[r-1] and col[r-1] one of r rows.
type tileShape struct {
	rows, cols int
	row, col   []func(t *byte)
	// transpose writes src [lanes, k] as dst [k, lanes]; strides in bytes.
	transpose func(dst *float32, dstStride int, src *float32, srcStride, k int)
	lanes     int
	pairs     bool // elements are pairs of bfloat16 along k
}

// tile is what a micro-kernel reads; gen/gemm.go knows the offsets. Strides are in
// bytes. C = alpha·A·B (+ bias) (+ C when accumulate is not 0).
type tile struct {
	a, b, c       unsafe.Pointer
	k             int
	lda, ldb, ldc int
	bias          unsafe.Pointer
	alpha         float32
	accumulate    int32
	mask          uint64         // bit j: column j exists
	lanes         unsafe.Pointer // the same as one int32 a column
	cut           int            // not 0 when some column does not exist
}

// workspace is one goroutine's memory for a product.
type workspace struct {
	a, row, rows []float32
	sums         [8]float32
	x            Operand
	t            tile
}

var (
	workspaces = stock[workspace]{make: func() *workspace { return new(workspace) }}
	panels     panelStock
)

func sized(buf *[]float32, n int) []float32 {
	if cap(*buf) < n {
		*buf = make([]float32, n)
	}
	*buf = (*buf)[:n]
	return *buf
}

// factors are what Gemm was called with.
type factors struct {
	c            []float32
	ldc, m, n, k int
	a, b         Operand
	o            GemmOptions
}

// product is the part of C in columns [j0, j1).
type product struct {
	factors
	s               *tileShape
	j0, j1          int
	units           int       // elements along k as the micro-kernels see them: k, or pairs of it
	depth           int       // of a block of units
	packed          []float32 // B by panels of s.cols columns, each [units, s.cols]; nil when B is read in place
	tiles           int       // of rows
	rowBlocks       int
	groups, inGroup int // groups of panels, and panels in each

	packing, computing, dotting func(lo, hi int) // its methods, bound once: a bound method is garbage
}

var products = stock[product]{make: func() *product {
	g := new(product)
	g.packing, g.computing, g.dotting = g.pack, g.compute, g.dot
	return g
}}

// run packs B and then computes blocks of C in any order.
func (g *product) run(split splitter) {
	s := g.s
	count := (g.j1 - g.j0 + s.cols - 1) / s.cols
	g.units, g.packed = g.k, nil
	if s.pairs {
		g.units = (g.k + 1) / 2
	}
	blocks := (g.units + kBlock - 1) / kBlock
	g.depth = ((g.units+blocks-1)/blocks + 3) &^ 3
	if g.b.Trans || g.b.F32 == nil || g.o.BF16 || g.m > 2*s.rows || (g.j1-g.j0)%s.cols != 0 {
		g.packed = panels.take(count * s.cols * g.units)
		defer panels.put(g.packed)
		split(count, max(1, (1<<14)/(s.cols*g.units)), g.packing)
	}
	// Blocks of rows that fit the second-level cache, as many for every thread; where
	// there are too few rows to share, groups of columns as well.
	const rowTiles, wanted = 8, 8
	g.tiles = (g.m + s.rows - 1) / s.rows
	g.rowBlocks = (g.tiles + rowTiles - 1) / rowTiles
	if g.tiles >= wanted {
		each := 2 * Threads()
		g.rowBlocks = min(g.tiles, max(wanted, (g.rowBlocks+each-1)/each*each))
	}
	g.groups = min(count, max(1, wanted/g.rowBlocks))
	g.inGroup = (count + g.groups - 1) / g.groups
	g.groups = (count + g.inGroup - 1) / g.inGroup
	work := 2 * g.tiles / g.rowBlocks * s.rows * g.inGroup * s.cols * g.units
	split(g.rowBlocks*g.groups, max(1, (1<<17)/work), g.computing)
}

// pack copies panels [lo, hi) of B; columns past the last are zero.
func (g *product) pack(lo, hi int) {
	s := g.s
	ws := workspaces.take()
	defer workspaces.put(ws)
	for p := lo; p < hi; p++ {
		dst := g.packed[p*s.cols*g.units : (p+1)*s.cols*g.units]
		j := g.j0 + p*s.cols
		cols := min(s.cols, g.j1-j)
		if g.b.Trans {
			g.packTransposed(dst, j, cols, ws)
			continue
		}
		for r := range g.units {
			d := dst[r*s.cols : (r+1)*s.cols]
			g.unit(d[:cols], &g.b, r, g.k, j, ws)
			clear(d[cols:])
		}
	}
}

// unit writes len(dst) elements along a stored row of x: row u, or the pairs of rows
// 2u and 2u+1, of which those from limit on are zero.
func (g *product) unit(dst []float32, x *Operand, u, limit, col int, ws *workspace) {
	if !g.s.pairs {
		x.read(dst, u, col)
		if g.o.BF16 {
			roundBF16(dst)
		}
		return
	}
	both := sized(&ws.row, 2*len(dst))
	low, high := both[:len(dst)], both[len(dst):]
	x.read(low, 2*u, col)
	if 2*u+1 < limit {
		x.read(high, 2*u+1, col)
	} else {
		clear(high)
	}
	pairRows(dst, low, high)
}

// line writes k elements of stored row r of x from column col on, as units.
func (g *product) line(dst []float32, x *Operand, r, col, k int, ws *workspace) {
	if !g.s.pairs {
		x.read(dst[:k], r, col)
		if g.o.BF16 {
			roundBF16(dst[:k])
		}
		return
	}
	halves := asHalves(dst)
	if x.BF16 != nil {
		copy(halves, x.BF16[r*x.LD+col:][:k])
	} else {
		wide := sized(&ws.row, k)
		x.read(wide, r, col)
		F32ToBF16(halves[:k], wide)
	}
	clear(halves[k:])
}

// asHalves is the same memory as pairs of bfloat16.
func asHalves(s []float32) []uint16 {
	return unsafe.Slice((*uint16)(unsafe.Pointer(unsafe.SliceData(s))), 2*len(s))
}

// roundBF16 rounds x to bfloat16 in place.
func roundBF16(x []float32) {
	for i, v := range x {
		b := math.Float32bits(v)
		x[i] = math.Float32frombits((b + 0x7fff + b>>16&1) &^ 0xffff)
	}
}

// packTransposed turns rows [j, j+cols) of the stored B [n, k].
func (g *product) packTransposed(dst []float32, j, cols int, ws *workspace) {
	s := g.s
	src, stride := g.b.F32, g.b.LD
	if src == nil || g.o.BF16 { // bring the rows into their form first
		stride = g.units
		src = sized(&ws.rows, cols*g.units)
		for i := range cols {
			g.line(src[i*g.units:(i+1)*g.units], &g.b, j+i, 0, g.k, ws)
		}
		j = 0
	}
	i := 0
	if s.transpose != nil {
		for ; i+s.lanes <= cols; i += s.lanes {
			s.transpose(&dst[i], 4*s.cols, &src[(j+i)*stride], 4*stride, g.units)
		}
	}
	for ; i < s.cols; i++ {
		if i >= cols {
			for r := range g.units {
				dst[r*s.cols+i] = 0
			}
			continue
		}
		row := src[(j+i)*stride:][:g.units]
		for r, v := range row {
			dst[r*s.cols+i] = v
		}
	}
}

// compute does blocks [lo, hi) of C.
func (g *product) compute(lo, hi int) {
	ws := workspaces.take()
	defer workspaces.put(ws)
	for at := lo; at < hi; at++ {
		i, p0 := at/g.groups, at%g.groups*g.inGroup
		i0, i1 := i*g.tiles/g.rowBlocks*g.s.rows, (i+1)*g.tiles/g.rowBlocks*g.s.rows
		j0, j1 := g.j0+p0*g.s.cols, min(g.j1, g.j0+(p0+g.inGroup)*g.s.cols)
		g.block(ws, i0, min(g.m, i1), j0, j1)
	}
	ws.t = tile{} // keep no pointer into the caller's memory
}

// block computes C[i0:i1, j0:j1], a block of k at a time.
func (g *product) block(ws *workspace, i0, i1, j0, j1 int) {
	s, t := g.s, &ws.t
	t.ldc = 4 * g.ldc
	t.alpha = g.o.Alpha
	for k0 := 0; k0 < g.units; k0 += g.depth {
		t.k = min(g.depth, g.units-k0)
		a, rowStep, form := g.left(ws, i0, i1, k0, t.k, j1-j0)
		t.accumulate = 1
		if k0 == 0 && !g.o.Accumulate {
			t.accumulate = 0
		}
		for j := j0; j < j1; j += s.cols {
			g.right(t, j, min(s.cols, j1-j), k0)
			for i := i0; i < i1; i += s.rows {
				t.a = unsafe.Pointer(&a[(i-i0)*rowStep])
				t.c = unsafe.Pointer(&g.c[i*g.ldc+j])
				form[min(s.rows, i1-i)-1]((*byte)(unsafe.Pointer(t)))
			}
		}
	}
}

// right points t at the panel of B that begins in column j.
func (g *product) right(t *tile, j, cols, k0 int) {
	s := g.s
	if g.packed != nil {
		t.b = unsafe.Pointer(&g.packed[(j-g.j0)*g.units+k0*s.cols])
		t.ldb = 4 * s.cols
	} else {
		t.b = unsafe.Pointer(&g.b.F32[k0*g.b.LD+j])
		t.ldb = 4 * g.b.LD
	}
	t.mask = 1<<cols - 1
	t.lanes = unsafe.Pointer(&laneMask[len(laneMask)/2-cols])
	t.cut = s.cols - cols
	t.bias = nil
	if g.o.Bias != nil && k0 == 0 {
		t.bias = unsafe.Pointer(&g.o.Bias[j])
	}
}

// laneMask holds as many set lanes as clear ones: a window into it that begins n
// before the middle has n set.
var laneMask = func() (m [64]int32) {
	for i := range 32 {
		m[i] = -1
	}
	return m
}()

// left returns rows [i0, i1) of A in units [k0, k0+k): copied with a stride that does
// not collide in the cache, unless so few panels use them that they are better read in
// place. form is the micro-kernels that read them, rowStep the distance of rows.
func (g *product) left(ws *workspace, i0, i1, k0, k, columns int) (a []float32, rowStep int, form []func(*byte)) {
	s, t := g.s, &ws.t
	const pad = 16
	rows := i1 - i0
	inPlace := g.a.F32 != nil && !g.o.BF16 && columns <= 2*s.cols
	if g.a.Trans {
		if inPlace {
			t.lda = 4 * g.a.LD
			return g.a.F32[k0*g.a.LD+i0:], 1, s.col
		}
		stride := rows + pad
		a = sized(&ws.a, k*stride)
		for r := range k {
			g.unit(a[r*stride:r*stride+rows], &g.a, k0+r, g.k, i0, ws)
		}
		t.lda = 4 * stride
		return a, 1, s.col
	}
	if inPlace {
		t.lda = 4 * g.a.LD
		return g.a.F32[i0*g.a.LD+k0:], g.a.LD, s.row
	}
	stride := k + pad
	a = sized(&ws.a, rows*stride)
	from, n := k0, k
	if s.pairs {
		from, n = 2*k0, min(2*k, g.k-2*k0)
	}
	for r := range rows {
		g.line(a[r*stride:r*stride+k], &g.a, i0+r, from, n, ws)
	}
	t.lda = 4 * stride
	return a, stride, s.row
}
