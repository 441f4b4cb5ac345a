package bayes_test

import (
	"context"
	"fmt"

	"tare/method/bayes"
)

// What comes after short and long eruptions, by all trees of depth 3 or less.
func ExampleContextTree() {
	const short, long = 0, 1
	seen := []int{long, short, long, short, long, long, short, long, short, long, long, long, short, long}
	o := bayes.NewContextTree(2)
	o.Depth = 3
	f, err := o.Fit(context.Background(), [][]int{seen})
	if err != nil {
		fmt.Println(err)
		return
	}
	next, err := f.Predict([]int{long, short})
	fmt.Printf("%.2f bits a symbol; after a short one comes a long one with probability %.2f %v\n", f.Bits(), next[long], err)
	// Output: 0.99 bits a symbol; after a short one comes a long one with probability 0.85 <nil>
}

// The bound on the regret of coins on 200 throws of one that shows 1 in 0.3 of them: how many
// coins there are hardly matters.
func ExampleWeightBound() {
	truth := func([]float64) []float64 { return []float64{0.7, 0.3} }
	for _, coins := range []bayes.Coins{10, 1000, 100000} {
		prior := make([]float64, coins)
		for i := range prior {
			prior[i] = 1
		}
		bound, _, err := bayes.WeightBound(prior, bayes.Divergences(coins, truth, [][]float64{nil}), 200)
		fmt.Printf("%d coins: %.2f nats %v\n", coins, bound, err)
	}
	// Output:
	// 10 coins: 2.89 nats <nil>
	// 1000 coins: 3.23 nats <nil>
	// 100000 coins: 3.24 nats <nil>
}
