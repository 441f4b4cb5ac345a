package catalog

func dynamics() []Paper {
	return []Paper{
		{
			Number: 10, Slug: "statmech-continual", API: "dynamics.BinaryContinual", Verb: "tare fit",
			Title: "Statistical mechanics of continual learning: variational principle and mean-field potential",
			Claim: "Training binary weights through their fields, with the previous task's distribution as prior, turns continual learning of the perceptron into a Franz–Parisi potential whose predictions agree with simulation, and in deeper networks beats the metaplasticity rule.",
			Plan:  Plan{Own: "Teacher and student perceptrons with two teachers of given overlap, error by theory and by simulation; then permuted MNIST and MNIST followed by Fashion-MNIST with binary weights.", Baselines: "binary metaplasticity, elastic weight consolidation"},
		},
		{
			Number: 32, Slug: "pv-rnn", API: "dynamics.PVRNN", Verb: "tare fit",
			Title: "A Novel Predictive-Coding-Inspired Variational RNN Model for Online Prediction and Recognition",
			Claim: "A variational recurrent network with adaptive vectors for each sequence turns chaotic under a strong meta-prior and random under a weak one, and captures the structure of the data best in between; regression of errors in a window predicts better than a standard variational network.",
			Plan:  Plan{Own: "Sequences from a probabilistic automaton over a sweep of the meta-prior, with Lyapunov exponents and transition statistics, and stroke trajectories with random switches.", Baselines: "a standard variational recurrent network"},
		},
		{
			Number: 42, Slug: "eqprop-homeostasis", API: "dynamics.EqProp", Verb: "tare fit",
			Title: "Improving equilibrium propagation without weight symmetry through Jacobian homeostasis",
			Claim: "With complex nudges a finite nudge does no harm, while asymmetric weights do; penalising the asymmetry of the Jacobian at the fixed point restores learning, up to images of ImageNet at 32 by 32.",
			Plan:  Plan{Own: "Perceptrons and small convolutional networks on MNIST and Fashion-MNIST, with and without symmetry, several numbers of nudges, with and without the penalty: accuracy, angle to the true gradient, asymmetry.", Baselines: "backpropagation, equilibrium propagation with a single nudge"},
		},
		{
			Number: 64, Slug: "connectivity-lazy-rich", API: "dynamics.LazyRich", Verb: "tare fit",
			Title: "How connectivity structure shapes rich and lazy learning in neural circuits",
			Claim: "Networks that start from connectivity of high rank change less in learning, those of low rank change more, unless the low-rank start is already aligned with the task.",
			Plan:  Plan{Own: "Recurrent networks on decision, matching, integration and image-row tasks over a sweep of initial rank at equal norm, at least 10 seeds: weight change, similarity of representations, alignment of tangent kernels.", Baselines: "full-rank random starts of the same norm"},
		},
	}
}
