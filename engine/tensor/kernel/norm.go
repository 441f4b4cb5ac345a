package kernel

import "math"

// RMSNorm normalizes one row: dst = x·rstd·w, rstd = 1/√(mean(x²)+eps), which is
// returned for the backward pass. dst may be x.
func RMSNorm(dst, x, w []float32, eps float32) (rstd float32) {
	rstd = rootInverse(SumSquares(x), len(x), eps)
	x, w = x[:len(dst)], w[:len(dst)]
	switch {
	case useAVX512:
		rmsApply512(dst, x, w, rstd)
	case useAVX2:
		rmsApply256(dst, x, w, rstd)
	default:
		rmsApplyGo(dst, x, w, rstd)
	}
	return rstd
}

// RMSNormBackward sets dx to the gradient of RMSNorm's row x and adds the
// gradient of w to dw, unless dw is nil. dx may be dy.
func RMSNormBackward(dx, dw, dy, x, w []float32, rstd float32) {
	n := len(x)
	if n == 0 {
		return
	}
	dx, dy, w = dx[:n], dy[:n], w[:n]
	c := dotThree(dy, w, x) * rstd * rstd / float32(n)
	if dw != nil {
		dw = dw[:n]
	}
	switch {
	case useAVX512 && dw == nil:
		rmsGrad512(dx, dy, x, w, rstd, c)
	case useAVX512:
		rmsGradW512(dx, dw, dy, x, w, rstd, c)
	case useAVX2 && dw == nil:
		rmsGrad256(dx, dy, x, w, rstd, c)
	case useAVX2:
		rmsGradW256(dx, dw, dy, x, w, rstd, c)
	default:
		rmsGradGo(dx, dw, dy, x, w, rstd, c)
	}
}

// LayerNorm normalizes one row: dst = (x−mean)·rstd·w + b. It returns the row's
// mean and 1/√(variance+eps) for the backward pass; b may be nil. dst may be x.
func LayerNorm(dst, x, w, b []float32, eps float32) (mean, rstd float32) {
	if len(x) == 0 {
		return 0, rootInverse(0, 0, eps)
	}
	mean = Sum(x) / float32(len(x))
	rstd = rootInverse(squaredDistance(x, mean), len(x), eps)
	x, w = x[:len(dst)], w[:len(dst)]
	switch {
	case useAVX512:
		layerApply512(dst, x, w, mean, rstd)
	case useAVX2:
		layerApply256(dst, x, w, mean, rstd)
	default:
		layerApplyGo(dst, x, w, mean, rstd)
	}
	if b != nil {
		Add(dst, dst, b)
	}
	return mean, rstd
}

// LayerNormBackward sets dx to the gradient of LayerNorm's row x and adds the
// gradients of w and b to dw and db, either of which may be nil. dx may be dy.
func LayerNormBackward(dx, dw, db, dy, x, w []float32, mean, rstd float32) {
	n := len(x)
	if n == 0 {
		return
	}
	dx, dy, w = dx[:n], dy[:n], w[:n]
	cg, ch := layerSums(dy, x, w, mean, rstd)
	cg, ch = cg/float32(n), ch/float32(n)
	if db != nil {
		Add(db, db, dy)
	}
	if dw != nil {
		dw = dw[:n]
	}
	switch {
	case useAVX512 && dw == nil:
		layerGrad512(dx, dy, x, w, mean, rstd, cg, ch)
	case useAVX512:
		layerGradW512(dx, dw, dy, x, w, mean, rstd, cg, ch)
	case useAVX2 && dw == nil:
		layerGrad256(dx, dy, x, w, mean, rstd, cg, ch)
	case useAVX2:
		layerGradW256(dx, dw, dy, x, w, mean, rstd, cg, ch)
	default:
		layerGradGo(dx, dw, dy, x, w, mean, rstd, cg, ch)
	}
}

// RoPE rotates one head in place by the half-split convention: with h = len(x)/2,
// x[i] and x[i+h] become x[i]·cos[i] − x[i+h]·sin[i] and x[i+h]·cos[i] +
// x[i]·sin[i]. cos and sin have h elements; negated sines rotate back.
func RoPE(x, cos, sin []float32) {
	h := len(x) / 2
	a, b := x[:h], x[h:2*h]
	cos, sin = cos[:h], sin[:h]
	switch {
	case useAVX512:
		rope512(a, b, cos, sin)
	case useAVX2:
		rope256(a, b, cos, sin)
	default:
		ropeGo(a, b, cos, sin)
	}
}

// rootInverse is 1/√(sum/n + eps), rounded once.
func rootInverse(sum float32, n int, eps float32) float32 {
	return float32(1 / math.Sqrt(float64(sum)/float64(max(n, 1))+float64(eps)))
}

// dotThree returns Σ x[i]·y[i]·z[i].
func dotThree(x, y, z []float32) float32 {
	switch {
	case useAVX512:
		return dotThree512(x, y, z)
	case useAVX2:
		return dotThree256(x, y, z)
	}
	return dotThreeGo(x, y, z)
}

// squaredDistance returns Σ (x[i]−mean)².
func squaredDistance(x []float32, mean float32) float32 {
	switch {
	case useAVX512:
		return squaredDistance512(x, mean)
	case useAVX2:
		return squaredDistance256(x, mean)
	}
	return squaredDistanceGo(x, mean)
}

// layerSums returns Σ g[i] and Σ g[i]·h[i], g = dy·w and h = (x−mean)·rstd.
func layerSums(dy, x, w []float32, mean, rstd float32) (g, gh float32) {
	switch {
	case useAVX512:
		return layerSums512(dy, x, w, mean, rstd)
	case useAVX2:
		return layerSums256(dy, x, w, mean, rstd)
	}
	return layerSumsGo(dy, x, w, mean, rstd)
}
