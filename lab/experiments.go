package lab

// Experiments lists every paper's experiment that can be run, in the order of
// the catalog. To add one, write its file and add its line here.
func Experiments() []Experiment {
	return []Experiment{
		bone(),
		lift(),
		boRep(),
		adalora(),
		s2ft(),
		ist(),
		paca(),
		dsee(),
		eva(),
		flora(),
		randlora(),
		sorsa(),
		loraSB(),
		transformedLowRank(),
		soka(),
		atp(),
		universalityLens(),
		programmableVI(),
		presto(),
		compositional(),
		arphmm(),
		blockDescent(),
		matrixCompletion(),
		sketchedSQP(),
	}
}

// Foundations lists the experiments on the engine itself, which are no paper's: their
// slugs are not in the catalog.
func Foundations() []Experiment { return []Experiment{mnist()} }

// Find returns the experiment of a paper's slug, or the one on the engine of that name;
// ok is false where there is none yet.
func Find(slug string) (x Experiment, ok bool) {
	for _, x := range append(Experiments(), Foundations()...) {
		if x.Slug == slug {
			return x, true
		}
	}
	return Experiment{}, false
}
