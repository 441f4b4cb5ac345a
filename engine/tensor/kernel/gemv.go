package kernel

// dotRows computes C for few rows of A and a transposed B: every row of B is read
// once and multiplied with up to four rows of A at a time.
func dotRows(c []float32, ldc, m, n, k int, a, b Operand, o GemmOptions, split splitter) {
	if m >= rowTileLeast && b.Q4 == nil && (useAVX512 || useAVX2) && k >= 16 {
		dotRowTile(c, ldc, m, n, k, a, b, o, split)
		return
	}
	if m < rowTileLeast && b.F32 != nil && n >= rowTileLeast && k <= shortRow && k%16 == 0 && (useAVX512 || useAVX2) {
		split(n, max(rowTileLeast, (1<<15)/k), func(lo, hi int) { dotShortRows(c, ldc, m, lo, hi, k, a, b, o) })
		return
	}
	split(n, max(1, (1<<15)/k), func(lo, hi int) {
		ws := workspaces.Get().(*workspace)
		defer workspaces.Put(ws)
		var y [4]float32
		for i := 0; i < m; i += 4 {
			rows := min(4, m-i)
			for j := lo; j < hi; j++ {
				if b.Q4 != nil {
					dotQ4(y[:rows], a.F32[i*a.LD:], a.LD, b.Q4, j, k)
				} else {
					dotRow(y[:rows], a.F32[i*a.LD:], a.LD, &b, j, k, ws)
				}
				for r, s := range y[:rows] {
					s *= o.Alpha
					if o.Bias != nil {
						s += o.Bias[j]
					}
					at := (i+r)*ldc + j
					if o.Accumulate {
						s += c[at]
					}
					c[at] = s
				}
			}
		}
	})
}

// rowTileLeast is the least number of rows that are multiplied all at once.
const rowTileLeast = 5

// shortRow is the most columns of rows that are multiplied eight at a time, because
// calling a kernel for each would take longer than its work: the keys of an attention.
const shortRow = 256

// dotShortRows sets columns [lo, hi) of C, at least rowTileLeast, for short rows of B in
// f32: eight of them meet one row of A at a time, the last eight meet it again.
func dotShortRows(c []float32, ldc, m, lo, hi, k int, a, b Operand, o GemmOptions) {
	var y [8]float32
	rows := min(len(y), hi-lo)
	for j := lo; j < hi; j += rows {
		at := min(j, hi-rows)
		part := o
		if o.Bias != nil {
			part.Bias = o.Bias[j:]
		}
		for i := range m {
			x := Operand{F32: a.F32[i*a.LD:]}
			rowTile(y[:], 1, 1, b.F32[at*b.LD:], b.LD, rows, &x, 0, k)
			finish(c[i*ldc+j:i*ldc+at+rows], y[j-at:rows], part)
		}
	}
}

// dotRowTile is dotRows for five to eight rows, which pass over B together.
func dotRowTile(c []float32, ldc, m, n, k int, a, b Operand, o GemmOptions, split splitter) {
	full := k &^ 15
	if full == k && o.Alpha == 1 && o.Bias == nil && !o.Accumulate {
		split(n, max(1, (1<<15)/k), func(lo, hi int) {
			rowTile(c[lo:], ldc, hi-lo, a.F32, a.LD, m, &b, lo*b.LD, full)
		})
		return
	}
	split(n, max(1, (1<<15)/k), func(lo, hi int) {
		ws := workspaces.Get().(*workspace)
		defer workspaces.Put(ws)
		wide := hi - lo
		y, rest := sized(&ws.rows, m*wide), sized(&ws.row, k-full)
		rowTile(y, wide, wide, a.F32, a.LD, m, &b, lo*b.LD, full)
		for j := lo; j < hi && full < k; j++ {
			b.read(rest, j, full)
			for r := range m {
				y[r*wide+j-lo] += dotGo(a.F32[r*a.LD+full:r*a.LD+k], rest)
			}
		}
		part := o
		if o.Bias != nil {
			part.Bias = o.Bias[lo:hi]
		}
		for r := range m {
			finish(c[r*ldc+lo:r*ldc+hi], y[r*wide:(r+1)*wide], part)
		}
	})
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
