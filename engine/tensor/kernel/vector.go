package kernel

// Dot returns Σ x[i]·y[i] over len(x) elements; y must be at least as long.
func Dot(x, y []float32) float32 {
	y = y[:len(x)]
	switch {
	case useAVX512:
		return dot512(x, y)
	case useAVX2:
		return dot256(x, y)
	}
	return dotGo(x, y)
}

// Sum returns Σ x[i].
func Sum(x []float32) float32 {
	switch {
	case useAVX512:
		return sum512(x)
	case useAVX2:
		return sum256(x)
	}
	return sumGo(x)
}

// SumSquares returns Σ x[i]².
func SumSquares(x []float32) float32 {
	switch {
	case useAVX512:
		return sumSquares512(x)
	case useAVX2:
		return sumSquares256(x)
	}
	return sumSquaresGo(x)
}

// Max returns the largest element, NaN when any is NaN, −Inf for an empty slice.
func Max(x []float32) float32 {
	switch {
	case useAVX512:
		return max512(x)
	case useAVX2:
		return max256(x)
	}
	return maxGo(x)
}

// AbsMax returns the largest magnitude, NaN when any element is NaN, 0 for an
// empty slice.
func AbsMax(x []float32) float32 {
	switch {
	case useAVX512:
		return absMax512(x)
	case useAVX2:
		return absMax256(x)
	}
	return absMaxGo(x)
}

// Axpy adds alpha·x to y.
func Axpy(alpha float32, x, y []float32) {
	y = y[:len(x)]
	switch {
	case useAVX512:
		axpy512(alpha, x, y)
	case useAVX2:
		axpy256(alpha, x, y)
	default:
		axpyGo(alpha, x, y)
	}
}

// Scale multiplies x by alpha in place.
func Scale(alpha float32, x []float32) {
	switch {
	case useAVX512:
		scale512(alpha, x)
	case useAVX2:
		scale256(alpha, x)
	default:
		scaleGo(alpha, x)
	}
}

// Add sets dst = x + y; dst may be x or y.
func Add(dst, x, y []float32) {
	x, y = x[:len(dst)], y[:len(dst)]
	switch {
	case useAVX512:
		add512(dst, x, y)
	case useAVX2:
		add256(dst, x, y)
	default:
		addGo(dst, x, y)
	}
}

// Sub sets dst = x − y; dst may be x or y.
func Sub(dst, x, y []float32) {
	x, y = x[:len(dst)], y[:len(dst)]
	switch {
	case useAVX512:
		sub512(dst, x, y)
	case useAVX2:
		sub256(dst, x, y)
	default:
		subGo(dst, x, y)
	}
}

// Mul sets dst = x·y elementwise; dst may be x or y.
func Mul(dst, x, y []float32) {
	x, y = x[:len(dst)], y[:len(dst)]
	switch {
	case useAVX512:
		mul512(dst, x, y)
	case useAVX2:
		mul256(dst, x, y)
	default:
		mulGo(dst, x, y)
	}
}

// MulAdd adds x·y elementwise to dst.
func MulAdd(dst, x, y []float32) {
	x, y = x[:len(dst)], y[:len(dst)]
	switch {
	case useAVX512:
		mulAdd512(dst, x, y)
	case useAVX2:
		mulAdd256(dst, x, y)
	default:
		mulAddGo(dst, x, y)
	}
}
