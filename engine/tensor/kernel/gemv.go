package kernel

// dotted reports whether C has few rows of A and a transposed B, which are multiplied
// without packing B.
func (g *factors) dotted() bool {
	return g.m <= rowsDotted && g.b.Trans && !g.a.Trans && g.a.F32 != nil
}

// dotGrain is the least columns of C that dot computes at once.
func (g *factors) dotGrain() int {
	if g.short() {
		return max(rowTileLeast, (1<<15)/g.k)
	}
	return max(1, (1<<15)/g.k)
}

// dot computes columns [lo, hi) of C for few rows of A and a transposed B.
func (g *factors) dot(lo, hi int) {
	switch {
	case g.tiled():
		g.dotRowTile(lo, hi)
	case g.short():
		g.dotShortRows(lo, hi)
	default:
		g.dotRows(lo, hi)
	}
}

// dotRows reads every row of B once and multiplies it with up to four rows of A at a time.
func (g *factors) dotRows(lo, hi int) {
	ws := workspaces.take()
	defer workspaces.put(ws)
	a, b, o, y := &g.a, &g.b, &g.o, &ws.sums
	for i := 0; i < g.m; i += 4 {
		rows := min(4, g.m-i)
		for j := lo; j < hi; j++ {
			if b.Q4 != nil {
				dotQ4(y[:rows], a.F32[i*a.LD:], a.LD, b.Q4, j, g.k)
			} else {
				dotRow(y[:rows], a.F32[i*a.LD:], a.LD, b, j, g.k, ws)
			}
			for r, s := range y[:rows] {
				s *= o.Alpha
				if o.Bias != nil {
					s += o.Bias[j]
				}
				at := (i+r)*g.ldc + j
				if o.Accumulate {
					s += g.c[at]
				}
				g.c[at] = s
			}
		}
	}
}

// rowTileLeast is the least number of rows that are multiplied all at once.
const rowTileLeast = 5

// tiled reports whether all rows of A pass over B together.
func (g *factors) tiled() bool {
	return g.m >= rowTileLeast && g.b.Q4 == nil && (useAVX512 || useAVX2) && g.k >= 16
}

// shortRow is the most columns of rows that are multiplied eight at a time, because
// calling a kernel for each would take longer than its work: the keys of an attention.
const shortRow = 256

// short reports whether rows of B are multiplied eight at a time.
func (g *factors) short() bool {
	return g.m < rowTileLeast && g.b.F32 != nil && g.n >= rowTileLeast && g.k <= shortRow && g.k%16 == 0 && (useAVX512 || useAVX2)
}

// dotShortRows sets columns [lo, hi) of C, at least rowTileLeast, for short rows of B in
// f32: eight of them meet one row of A at a time, the last eight meet it again.
func (g *factors) dotShortRows(lo, hi int) {
	ws := workspaces.take()
	defer workspaces.put(ws)
	y := &ws.sums
	rows := min(len(y), hi-lo)
	for j := lo; j < hi; j += rows {
		at := min(j, hi-rows)
		part := g.o
		if part.Bias != nil {
			part.Bias = part.Bias[j:]
		}
		for i := range g.m {
			ws.x = Operand{F32: g.a.F32[i*g.a.LD:]}
			rowTile(y[:], 1, 1, g.b.F32[at*g.b.LD:], g.b.LD, rows, &ws.x, 0, g.k)
			finish(g.c[i*g.ldc+j:i*g.ldc+at+rows], y[j-at:rows], part)
		}
	}
	ws.x = Operand{}
}

// dotRowTile is dotRows for five to eight rows, which pass over B together.
func (g *factors) dotRowTile(lo, hi int) {
	m, k, a, b, full := g.m, g.k, &g.a, &g.b, g.k&^15
	if full == k && g.o.Alpha == 1 && g.o.Bias == nil && !g.o.Accumulate {
		rowTile(g.c[lo:], g.ldc, hi-lo, a.F32, a.LD, m, b, lo*b.LD, full)
		return
	}
	ws := workspaces.take()
	defer workspaces.put(ws)
	wide := hi - lo
	y, rest := sized(&ws.rows, m*wide), sized(&ws.row, k-full)
	rowTile(y, wide, wide, a.F32, a.LD, m, b, lo*b.LD, full)
	for j := lo; j < hi && full < k; j++ {
		b.read(rest, j, full)
		for r := range m {
			y[r*wide+j-lo] += dotGo(a.F32[r*a.LD+full:r*a.LD+k], rest)
		}
	}
	part := g.o
	if part.Bias != nil {
		part.Bias = part.Bias[lo:hi]
	}
	for r := range m {
		finish(g.c[r*g.ldc+lo:r*g.ldc+hi], y[r*wide:(r+1)*wide], part)
	}
}

// dotRow sets y[r] to the product of row r of x with row j of the stored B.
func dotRow(y, x []float32, ldx int, b *Operand, j, k int, ws *workspace) {
	at, done := j*b.LD, 0
	if full := k &^ 15; full > 0 && (useAVX512 || useAVX2) {
		dots(y, x, ldx, b, at, full)
		done = full
	}
	if done == k {
		return
	}
	rest := sized(&ws.row, k-done)
	b.read(rest, j, done)
	for r := range y {
		s := dotGo(x[r*ldx+done:r*ldx+k], rest)
		if done > 0 {
			s += y[r]
		}
		y[r] = s
	}
}
