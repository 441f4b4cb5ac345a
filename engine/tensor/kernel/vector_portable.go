package kernel

import "math"

// lanes is how many running sums the portable reductions keep: as many as the
// vector paths, so that the rounding error grows alike.
const lanes = 16

// reduce folds the running sums pairwise.
func reduce(s *[lanes]float32) float32 {
	for w := lanes / 2; w > 0; w /= 2 {
		for i := range w {
			s[i] += s[i+w]
		}
	}
	return s[0]
}

func dotGo(x, y []float32) float32 {
	y = y[:len(x)]
	var s [lanes]float32
	i := 0
	for ; i+lanes <= len(x); i += lanes {
		a, b := x[i:i+lanes:i+lanes], y[i:i+lanes:i+lanes]
		for j := range s {
			s[j] += a[j] * b[j]
		}
	}
	for j := 0; i < len(x); i, j = i+1, j+1 {
		s[j] += x[i] * y[i]
	}
	return reduce(&s)
}

func sumGo(x []float32) float32 {
	var s [lanes]float32
	i := 0
	for ; i+lanes <= len(x); i += lanes {
		a := x[i : i+lanes : i+lanes]
		for j := range s {
			s[j] += a[j]
		}
	}
	for j := 0; i < len(x); i, j = i+1, j+1 {
		s[j] += x[i]
	}
	return reduce(&s)
}

func sumSquaresGo(x []float32) float32 { return dotGo(x, x) }

func maxGo(x []float32) float32 {
	m := float32(math.Inf(-1))
	for _, v := range x {
		m = max(m, v)
	}
	return m
}

func absMaxGo(x []float32) float32 {
	m := float32(0)
	for _, v := range x {
		m = max(m, math.Float32frombits(math.Float32bits(v)&^(1<<31)))
	}
	return m
}

func axpyGo(alpha float32, x, y []float32) {
	y = y[:len(x)]
	for i, v := range x {
		y[i] += alpha * v
	}
}

func scaleGo(alpha float32, x []float32) {
	for i := range x {
		x[i] *= alpha
	}
}

func addGo(dst, x, y []float32) {
	x, y = x[:len(dst)], y[:len(dst)]
	for i := range dst {
		dst[i] = x[i] + y[i]
	}
}

func subGo(dst, x, y []float32) {
	x, y = x[:len(dst)], y[:len(dst)]
	for i := range dst {
		dst[i] = x[i] - y[i]
	}
}

func mulGo(dst, x, y []float32) {
	x, y = x[:len(dst)], y[:len(dst)]
	for i := range dst {
		dst[i] = x[i] * y[i]
	}
}

func mulAddGo(dst, x, y []float32) {
	x, y = x[:len(dst)], y[:len(dst)]
	for i := range dst {
		dst[i] += x[i] * y[i]
	}
}
