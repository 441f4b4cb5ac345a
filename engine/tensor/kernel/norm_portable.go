package kernel

func rmsApplyGo(dst, x, w []float32, rstd float32) {
	x, w = x[:len(dst)], w[:len(dst)]
	for i := range dst {
		dst[i] = x[i] * rstd * w[i]
	}
}

func dotThreeGo(x, y, z []float32) float32 {
	var s [lanes]float32
	for i := range x {
		s[i%lanes] += x[i] * y[i] * z[i]
	}
	return reduce(&s)
}

func rmsGradGo(dx, dw, dy, x, w []float32, rstd, c float32) {
	for i := range dw {
		dw[i] += dy[i] * (x[i] * rstd)
	}
	for i := range dx {
		dx[i] = rstd * (dy[i]*w[i] - c*x[i])
	}
}

func squaredDistanceGo(x []float32, mean float32) float32 {
	var s [lanes]float32
	for i, v := range x {
		d := v - mean
		s[i%lanes] += d * d
	}
	return reduce(&s)
}

func layerApplyGo(dst, x, w []float32, mean, rstd float32) {
	for i := range dst {
		dst[i] = (x[i] - mean) * rstd * w[i]
	}
}

func layerSumsGo(dy, x, w []float32, mean, rstd float32) (g, gh float32) {
	var sg, sh [lanes]float32
	for i := range x {
		v := dy[i] * w[i]
		sg[i%lanes] += v
		sh[i%lanes] += v * ((x[i] - mean) * rstd)
	}
	return reduce(&sg), reduce(&sh)
}

func layerGradGo(dx, dw, dy, x, w []float32, mean, rstd, cg, ch float32) {
	for i := range dx {
		h := (x[i] - mean) * rstd
		d := dy[i]
		if dw != nil {
			dw[i] += d * h
		}
		dx[i] = rstd * (d*w[i] - cg - h*ch)
	}
}

func ropeGo(a, b, cos, sin []float32) {
	for i := range a {
		p, q := a[i], b[i]
		a[i] = p*cos[i] - q*sin[i]
		b[i] = q*cos[i] + p*sin[i]
	}
}
