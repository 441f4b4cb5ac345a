package catalog

func optimize() []Paper {
	return []Paper{
		{
			Number: 4, Slug: "bo-rep", State: Runs, API: "optimize.BOREP", Verb: "tare fit",
			Title: "Bilevel Optimization under Unbounded Smoothness: A New Algorithm and Convergence Analysis",
			Claim: "Normalised momentum above, and a lower variable that is refined once and then updated only now and then, find an ε-stationary point in O(1/ε⁴) oracle calls even where the upper gradient is not Lipschitz, as with recurrent networks.",
			Plan:  Plan{Own: "Hyper-representation with a recurrent network, cleaning of noisy labels, and choice of regularisation for sorting text: accuracy against oracle calls and seconds.", Baselines: "StocBiO, MA-SOBA, TTSA"},
		},
		{
			Number: 28, Slug: "robust-matrix-completion", State: Runs, API: "optimize.MatrixCompletion", Verb: "tare fit",
			Title: "Low Rank Matrix Completion via Robust Alternating Minimization in Nearly Linear Time",
			Claim: "Alternating minimisation may solve its regressions only roughly: a sketched solver completes a rank-k matrix from the observed entries Ω in time of order |Ω|·k up to logarithms, where exact steps take |Ω|·k².",
			Plan:  Plan{Own: "Time against rank and against entries, with the slope on logarithmic axes, error by sweep, and held-out error on real ratings.", Baselines: "exact alternating least squares, stochastic gradient descent"},
		},
		{
			Number: 35, Slug: "block-coordinate-descent", State: Runs, API: "optimize.BlockDescent", Verb: "tare fit",
			Title: "Let's Make Block Coordinate Descent Converge Faster: Faster Greedy Rules, Message-Passing, Active-Set Complexity, and Superlinear Convergence",
			Claim: "Better greedy choice of blocks, exact steps on huge tree-shaped blocks by message passing, and switching to Newton steps once the active set is found each make more progress an iteration, and end in superlinear convergence on problems with sparse solutions.",
			Plan:  Plan{Own: "Least squares, binary and multi-class logistic regression, label propagation, bounded and L1 problems: distance to the optimum by iteration and by second, and the iteration at which the support is found.", Baselines: "random, cyclic and Gauss–Southwell choice; gradient and matrix steps"},
		},
		{
			Number: 56, Slug: "sketched-sqp", State: Runs, API: "optimize.SketchedSQP", Verb: "tare fit",
			Title: "Constrained Optimization via Exact Augmented Lagrangian and Randomized Iterative Sketching",
			Claim: "Solving each Newton system of a constrained problem only as well as needed, by randomized sketching, converges almost surely from anywhere and linearly near the solution, superlinearly as the accuracy is sharpened, and beats deterministic solvers.",
			Plan:  Plan{Own: "At least 20 benchmark problems from their published formulas, constrained logistic regression, and control of a Poisson equation: operations, seconds and rates of convergence.", Baselines: "the same method with exact factorisation, with GMRES"},
		},
	}
}
