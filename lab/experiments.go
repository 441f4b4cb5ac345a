package lab

// Experiments lists every paper's experiment that can be run, in the order of
// the catalog. To add one, write its file and add its line here.
func Experiments() []Experiment {
	return []Experiment{bone(), paca()}
}

// Find returns the experiment of a paper's slug; ok is false where there is
// none yet.
func Find(slug string) (x Experiment, ok bool) {
	for _, x := range Experiments() {
		if x.Slug == slug {
			return x, true
		}
	}
	return Experiment{}, false
}
