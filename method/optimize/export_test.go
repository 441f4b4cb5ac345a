package optimize

// Merit returns the exact augmented Lagrangian at a point, and its gradient in x and in λ.
func Merit(p Program, x, lambda []float64, mu, nu float64) (v float64, gx, gl []float64) {
	q := at(p, x, lambda)
	gx, gl = q.meritGradient(p, matrix(len(x), p.Hessian(x, 1, lambda)), mu, nu)
	return q.merit(mu, nu), gx, gl
}
