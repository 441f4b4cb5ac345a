package diffusion

// Distance returns how far two sets of feature vectors, rows of width numbers, are
// apart as distributions: the unbiased estimate of the squared maximum mean discrepancy
// under the kernel k(x, y) = (xᵀy/width + 1)³, the kernel inception distance of Bińkowski
// et al. (2018, arXiv:1801.01401). It is about 0 for two samples of one distribution, and
// may be slightly negative. Each set needs two rows.
func Distance(x, y []float32, width int) float64 {
	return within(x, width) + within(y, width) - 2*across(x, y, width)
}

// within is the mean of k over all pairs of different rows.
func within(x []float32, width int) float64 {
	n := len(x) / width
	sum := 0.0
	for i := range n {
		for j := range i {
			sum += similar(x[i*width:(i+1)*width], x[j*width:(j+1)*width])
		}
	}
	return 2 * sum / float64(n*(n-1))
}

// across is the mean of k over all pairs of a row of each.
func across(x, y []float32, width int) float64 {
	n, m := len(x)/width, len(y)/width
	sum := 0.0
	for i := range n {
		for j := range m {
			sum += similar(x[i*width:(i+1)*width], y[j*width:(j+1)*width])
		}
	}
	return sum / float64(n*m)
}

func similar(x, y []float32) float64 {
	dot := 0.0
	for i, v := range x {
		dot += float64(v) * float64(y[i])
	}
	k := dot/float64(len(x)) + 1
	return k * k * k
}
