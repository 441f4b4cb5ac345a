package kernel

// Exp sets dst = eˣ.
func Exp(dst, x []float32) {
	x = x[:len(dst)]
	switch {
	case useAVX512:
		exp512(dst, x)
	case useAVX2:
		exp256(dst, x)
	default:
		expGo(dst, x)
	}
}

// ExpSum sets dst = e^(x−shift) and returns the sum of dst. An element of −Inf
// gives 0 also when shift is −Inf.
func ExpSum(dst, x []float32, shift float32) float32 {
	x = x[:len(dst)]
	switch {
	case useAVX512:
		return expSum512(dst, x, shift)
	case useAVX2:
		return expSum256(dst, x, shift)
	}
	return expSumGo(dst, x, shift)
}

// AttentionGrad turns ds, the gradient of a softmax row p, into that of the scores
// before scale: ds = scale·p·(ds−delta), delta being Σ ds·p.
func AttentionGrad(ds, p []float32, delta, scale float32) {
	p = p[:len(ds)]
	switch {
	case useAVX512:
		attentionGrad512(ds, p, delta, scale)
	case useAVX2:
		attentionGrad256(ds, p, delta, scale)
	default:
		attentionGradGo(ds, p, delta, scale)
	}
}

// Sigmoid sets dst = 1/(1+e⁻ˣ).
func Sigmoid(dst, x []float32) {
	x = x[:len(dst)]
	switch {
	case useAVX512:
		sigmoid512(dst, x)
	case useAVX2:
		sigmoid256(dst, x)
	default:
		sigmoidGo(dst, x)
	}
}

// Tanh sets dst = tanh x.
func Tanh(dst, x []float32) {
	x = x[:len(dst)]
	switch {
	case useAVX512:
		tanh512(dst, x)
	case useAVX2:
		tanh256(dst, x)
	default:
		tanhGo(dst, x)
	}
}

// ReLU sets dst = max(x, 0); NaN stays NaN.
func ReLU(dst, x []float32) {
	x = x[:len(dst)]
	switch {
	case useAVX512:
		relu512(dst, x)
	case useAVX2:
		relu256(dst, x)
	default:
		reluGo(dst, x)
	}
}

// SiLU sets dst = x·sigmoid(x).
func SiLU(dst, x []float32) {
	x = x[:len(dst)]
	switch {
	case useAVX512:
		silu512(dst, x)
	case useAVX2:
		silu256(dst, x)
	default:
		siluGo(dst, x)
	}
}

// GELU sets dst = x·Φ(x), Φ the normal distribution function by way of erf.
func GELU(dst, x []float32) {
	x = x[:len(dst)]
	switch {
	case useAVX512:
		gelu512(dst, x)
	case useAVX2:
		gelu256(dst, x)
	default:
		geluGo(dst, x)
	}
}

// GELUTanh sets dst to GELU's tanh approximation.
func GELUTanh(dst, x []float32) {
	x = x[:len(dst)]
	switch {
	case useAVX512:
		geluTanh512(dst, x)
	case useAVX2:
		geluTanh256(dst, x)
	default:
		geluTanhGo(dst, x)
	}
}

// SiLUMul sets dst = SiLU(gate)·up, the middle of a gated feed-forward block.
func SiLUMul(dst, gate, up []float32) {
	gate, up = gate[:len(dst)], up[:len(dst)]
	switch {
	case useAVX512:
		siluMul512(dst, gate, up)
	case useAVX2:
		siluMul256(dst, gate, up)
	default:
		siluMulGo(dst, gate, up)
	}
}

// SigmoidBackward sets dx = dy·y·(1−y), y being Sigmoid's result.
func SigmoidBackward(dx, dy, y []float32) {
	dy, y = dy[:len(dx)], y[:len(dx)]
	switch {
	case useAVX512:
		sigmoidBackward512(dx, dy, y)
	case useAVX2:
		sigmoidBackward256(dx, dy, y)
	default:
		sigmoidBackwardGo(dx, dy, y)
	}
}

// TanhBackward sets dx = dy·(1−y²), y being Tanh's result.
func TanhBackward(dx, dy, y []float32) {
	dy, y = dy[:len(dx)], y[:len(dx)]
	switch {
	case useAVX512:
		tanhBackward512(dx, dy, y)
	case useAVX2:
		tanhBackward256(dx, dy, y)
	default:
		tanhBackwardGo(dx, dy, y)
	}
}

// ReLUBackward sets dx = dy where x > 0, else 0.
func ReLUBackward(dx, dy, x []float32) {
	dy, x = dy[:len(dx)], x[:len(dx)]
	switch {
	case useAVX512:
		reluBackward512(dx, dy, x)
	case useAVX2:
		reluBackward256(dx, dy, x)
	default:
		reluBackwardGo(dx, dy, x)
	}
}

// SiLUBackward sets dx to dy times SiLU's derivative at x.
func SiLUBackward(dx, dy, x []float32) {
	dy, x = dy[:len(dx)], x[:len(dx)]
	switch {
	case useAVX512:
		siluBackward512(dx, dy, x)
	case useAVX2:
		siluBackward256(dx, dy, x)
	default:
		siluBackwardGo(dx, dy, x)
	}
}

// GELUBackward sets dx to dy times GELU's derivative at x.
func GELUBackward(dx, dy, x []float32) {
	dy, x = dy[:len(dx)], x[:len(dx)]
	switch {
	case useAVX512:
		geluBackward512(dx, dy, x)
	case useAVX2:
		geluBackward256(dx, dy, x)
	default:
		geluBackwardGo(dx, dy, x)
	}
}

// GELUTanhBackward sets dx to dy times GELUTanh's derivative at x.
func GELUTanhBackward(dx, dy, x []float32) {
	dy, x = dy[:len(dx)], x[:len(dx)]
	switch {
	case useAVX512:
		geluTanhBackward512(dx, dy, x)
	case useAVX2:
		geluTanhBackward256(dx, dy, x)
	default:
		geluTanhBackwardGo(dx, dy, x)
	}
}

// SiLUMulBackward sets dgate and dup to the gradients of SiLUMul. They may be gate and up.
func SiLUMulBackward(dgate, dup, dy, gate, up []float32) {
	n := len(dgate)
	dup, dy, gate, up = dup[:n], dy[:n], gate[:n], up[:n]
	switch {
	case useAVX512:
		siluMulBackward512(dgate, dup, dy, gate, up)
	case useAVX2:
		siluMulBackward256(dgate, dup, dy, gate, up)
	default:
		siluMulBackwardGo(dgate, dup, dy, gate, up)
	}
}
