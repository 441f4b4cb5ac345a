package kernel

import "math"

func exp1(x float32) float32 { return float32(math.Exp(float64(x))) }

func sigmoid1(x float32) float32 { return float32(1 / (1 + math.Exp(-float64(x)))) }

// siluSlope1 is SiLU's derivative.
func siluSlope1(x float32) float32 {
	v := float64(x)
	s := 1 / (1 + math.Exp(-v))
	return float32(s * (1 + v*(1-s)))
}

func expGo(dst, x []float32) {
	x = x[:len(dst)]
	for i := range dst {
		dst[i] = exp1(x[i])
	}
}

func expSumGo(dst, x []float32, shift float32) float32 {
	x = x[:len(dst)]
	var s [lanes]float32
	for i := range dst {
		e := float32(0)
		if !math.IsInf(float64(x[i]), -1) {
			e = exp1(x[i] - shift)
		}
		dst[i] = e
		s[i%lanes] += e
	}
	return reduce(&s)
}

func sigmoidGo(dst, x []float32) {
	x = x[:len(dst)]
	for i := range dst {
		dst[i] = sigmoid1(x[i])
	}
}

func tanhGo(dst, x []float32) {
	x = x[:len(dst)]
	for i := range dst {
		dst[i] = float32(math.Tanh(float64(x[i])))
	}
}

func reluGo(dst, x []float32) {
	x = x[:len(dst)]
	for i := range dst {
		dst[i] = max(x[i], 0)
	}
}

func siluGo(dst, x []float32) {
	x = x[:len(dst)]
	for i := range dst {
		dst[i] = x[i] * sigmoid1(x[i])
	}
}

func geluGo(dst, x []float32) {
	x = x[:len(dst)]
	for i := range dst {
		v := float64(x[i])
		dst[i] = float32(0.5 * v * math.Erfc(-v/math.Sqrt2))
	}
}

// The constants of GELU's tanh approximation. Beyond ±geluEdge GELU and its
// approximation are straight lines in float32; derivatives are taken there, so that
// products with what vanishes stay finite.
const (
	geluRoot  = 0.7978845608028654 // √(2/π)
	geluCubic = 0.044715
	geluEdge  = 14
)

func geluTanhGo(dst, x []float32) {
	x = x[:len(dst)]
	for i := range dst {
		v := float64(x[i])
		dst[i] = float32(0.5 * v * (1 + math.Tanh(geluRoot*(v+geluCubic*v*v*v))))
	}
}

func siluMulGo(dst, gate, up []float32) {
	gate, up = gate[:len(dst)], up[:len(dst)]
	for i := range dst {
		dst[i] = gate[i] * sigmoid1(gate[i]) * up[i]
	}
}

func sigmoidBackwardGo(dx, dy, y []float32) {
	dy, y = dy[:len(dx)], y[:len(dx)]
	for i := range dx {
		dx[i] = dy[i] * (y[i] * (1 - y[i]))
	}
}

func tanhBackwardGo(dx, dy, y []float32) {
	dy, y = dy[:len(dx)], y[:len(dx)]
	for i := range dx {
		dx[i] = dy[i] * (1 - y[i]*y[i])
	}
}

func reluBackwardGo(dx, dy, x []float32) {
	dy, x = dy[:len(dx)], x[:len(dx)]
	for i := range dx {
		v := dy[i]
		if !(x[i] > 0) {
			v = 0
		}
		dx[i] = v
	}
}

func siluBackwardGo(dx, dy, x []float32) {
	dy, x = dy[:len(dx)], x[:len(dx)]
	for i := range dx {
		dx[i] = dy[i] * siluSlope1(x[i])
	}
}

func geluBackwardGo(dx, dy, x []float32) {
	dy, x = dy[:len(dx)], x[:len(dx)]
	for i := range dx {
		v := float64(min(max(x[i], -geluEdge), geluEdge))
		phi := math.Exp(-0.5*v*v) * (geluRoot / 2)
		dx[i] = float32(float64(dy[i]) * (0.5*math.Erfc(-v/math.Sqrt2) + v*phi))
	}
}

func geluTanhBackwardGo(dx, dy, x []float32) {
	dy, x = dy[:len(dx)], x[:len(dx)]
	for i := range dx {
		v := float64(min(max(x[i], -geluEdge), geluEdge))
		t := math.Tanh(geluRoot * (v + geluCubic*v*v*v))
		d := 0.5*(1+t) + 0.5*v*(1-t*t)*geluRoot*(1+3*geluCubic*v*v)
		dx[i] = float32(float64(dy[i]) * d)
	}
}

func siluMulBackwardGo(dgate, dup, dy, gate, up []float32) {
	n := len(dgate)
	dup, dy, gate, up = dup[:n], dy[:n], gate[:n], up[:n]
	for i := range dgate {
		g, u, d := gate[i], up[i], dy[i]
		dup[i] = d * (g * sigmoid1(g))
		dgate[i] = d * u * siluSlope1(g)
	}
}

func attentionGradGo(ds, p []float32, delta, scale float32) {
	p = p[:len(ds)]
	for i := range ds {
		ds[i] = scale * p[i] * (ds[i] - delta)
	}
}
