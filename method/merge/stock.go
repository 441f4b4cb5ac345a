package merge

import "math"

// ModelStock goes from the base towards the models' average by a ratio that follows
// from the mean cosine c between their changes (Jang et al. 2024, arXiv:2403.19522):
//
//	r = n c / (1 + (n − 1) c),   out = r (Σ θ_k)/n + (1 − r) θ₀
//
// Where the ratio has no finite value the base is kept, as in mergekit.
var ModelStock = Span{FromBase: true,
	Along: func(g Params) axis {
		if g.on("filter_wise") {
			return rows
		}
		return flat
	},
	Weigh: func(p products, in *Input, w []float64) error {
		const least = 1e-6
		cos, pairs := 0.0, 0.0
		for i := range w {
			for j := range i {
				cos += clamp(p.at(i, j) / max(least, p.norm(i)*p.norm(j)))
				pairs++
			}
		}
		cos /= pairs
		n := float64(len(w))
		below := 1 + (n-1)*cos
		if math.Abs(below) < least {
			return nil
		}
		for i := range w {
			w[i] = cos / below
		}
		return nil
	}}
