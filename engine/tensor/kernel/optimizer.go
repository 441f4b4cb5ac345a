package kernel

import "math"

// AdamW does one AdamW step on w with gradient g and the running moments m and v:
// w shrinks by lr·decay, the moments are updated with beta1 and beta2, and w moves
// by lr·(m/c1)/(√(v/c2)+eps). c1 and c2 are the bias corrections 1−beta1ᵗ and
// 1−beta2ᵗ of step t.
func AdamW(w, g, m, v []float32, lr, beta1, beta2, eps, decay, c1, c2 float32) {
	g, m, v = g[:len(w)], m[:len(w)], v[:len(w)]
	step, keep, root := lr/c1, 1-lr*decay, float32(1/math.Sqrt(float64(c2)))
	switch {
	case useAVX512:
		adamW512(w, g, m, v, step, beta1, beta2, eps, keep, root)
	case useAVX2:
		adamW256(w, g, m, v, step, beta1, beta2, eps, keep, root)
	default:
		adamWGo(w, g, m, v, step, beta1, beta2, eps, keep, root)
	}
}

// adamWGo takes the step size over c1, the shrinking factor and 1/√c2.
func adamWGo(w, g, m, v []float32, step, beta1, beta2, eps, keep, root float32) {
	g, m, v = g[:len(w)], m[:len(w)], v[:len(w)]
	a1, a2 := 1-beta1, 1-beta2
	for i := range w {
		d := g[i]
		mi := beta1*m[i] + a1*d
		vi := beta2*v[i] + a2*d*d
		m[i], v[i] = mi, vi
		den := float32(math.Sqrt(float64(vi)))*root + eps
		w[i] = w[i]*keep - step*mi/den
	}
}
