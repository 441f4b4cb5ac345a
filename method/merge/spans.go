package merge

import "tare/engine/tensor/kernel"

// grain is how many entries a thread works on at a time: several inputs of that many
// stay in its cache.
const grain = 1 << 13

// blockLen is how many entries a partial sum covers. Pieces of a tensor that a method
// measures begin at a multiple of it, so that sums, and with them the result's bits,
// depend on neither the pieces nor the threads.
const blockLen = 1 << 10

// spans calls f on ranges of at most grain entries that together are [0, n), in
// parallel.
func spans(n int, f func(lo, hi int)) {
	kernel.Parallel(n, grain, func(lo, hi int) {
		for at := lo; at < hi; at += grain {
			f(at, min(at+grain, hi))
		}
	})
}

// unit is a run of entries whose sum is formed in one go: it lies within one block of
// the tensor and within one of its rows.
type unit struct{ lo, hi int }

// units lists the units of the n entries from off, their bounds counted from off.
func units(dst []unit, off, n, row int) []unit {
	for at := 0; at < n; {
		end := min(n, at+blockLen-(off+at)%blockLen)
		if row > 0 {
			end = min(end, at+row-(off+at)%row)
		}
		dst = append(dst, unit{at, end})
		at = end
	}
	return dst
}

// sums calls f for each unit of the n entries from off, in parallel, with room for
// its sums and with as many blocks to work in, and then add for each unit in order.
func sums(off, n, row, width, blocks int, f func(u unit, sum []float64, work []float32), add func(at int, sum []float64)) {
	list := units(nil, off, n, row)
	found := make([]float64, len(list)*width)
	kernel.Parallel(len(list), grain/blockLen, func(lo, hi int) {
		work := make([]float32, blocks*blockLen)
		for i := lo; i < hi; i++ {
			f(list[i], found[i*width:][:width], work)
		}
	})
	for i, u := range list {
		add(off+u.lo, found[i*width:][:width])
	}
}

// dot is Σ x y in float64, in four lanes.
func dot(x, y []float32) float64 {
	var a, b, c, d float64
	y = y[:len(x)]
	for len(x) >= 4 {
		a += float64(x[0]) * float64(y[0])
		b += float64(x[1]) * float64(y[1])
		c += float64(x[2]) * float64(y[2])
		d += float64(x[3]) * float64(y[3])
		x, y = x[4:], y[4:]
	}
	for i := range x {
		a += float64(x[i]) * float64(y[i])
	}
	return (a + b) + (c + d)
}

// total is the sum of magnitudes of x.
func total(x []float32) (s float64) {
	for _, v := range x {
		s += max(float64(v), -float64(v))
	}
	return s
}
