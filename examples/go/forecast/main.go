// Forecast forecasts the weekly CO₂ concentration at Mauna Loa from the 96 weeks before, with a small network (mlp.go)
// that is trained twice by libmetaadamw: as plain AdamW and as MetaAdamW, from the same start and on the same batches,
// for a few seeds. It is examples/c/forecast.c in Go.
//
//	go run . [-epochs N] [-seeds N] [-data FILE]
//
// The windows, in the order of time: the first 70 % are for training, the next 10 % are held out for the validation
// batches of the meta-updates, and on the last 20 %, which no optimizer uses, the printed MSE is measured after every
// epoch. See forecast.c for what that favors.
package main

import (
	"flag"
	"fmt"
	"log"
	"math"
	"os"
	"regexp"
	"strconv"
	"time"

	"libmetaadamw.example/metaadamw"
)

const (
	batch        = 64
	metaInterval = 15
)

// series is cut into windows, each minus its last value (the series rises, its changes hardly do), divided by the
// training windows' standard deviation. The mean stays: a prediction of 0 is "as last week".
type series struct {
	weeks                      int
	windows                    []sample
	train, heldOut, validation int
	ppm2                       float64 // one unit of the network's squared error in ppm²
}

// readSeries reads the data from the C header.
func readSeries(path string) (*series, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var weeks []float32
	for _, figure := range regexp.MustCompile(`\b([0-9.]+)f,`).FindAllSubmatch(text, -1) {
		ppm, err := strconv.ParseFloat(string(figure[1]), 32)
		if err != nil {
			return nil, err
		}
		weeks = append(weeks, float32(ppm))
	}
	count := len(weeks) - inputs
	s := &series{weeks: len(weeks), train: count * 7 / 10, heldOut: count / 10}
	s.validation = count - s.train - s.heldOut
	if s.heldOut < batch {
		return nil, fmt.Errorf("%s has %d figures, too few", path, len(weeks))
	}
	past, next := 0.0, 0.0
	for w := range count {
		window := sample{next: weeks[w+inputs] - weeks[w+inputs-1]}
		for i := range inputs {
			window.past[i] = weeks[w+i] - weeks[w+inputs-1]
		}
		if w < s.train {
			for _, x := range window.past {
				past += float64(float64(x) * float64(x) / inputs / float64(s.train))
			}
			next += float64(float64(window.next) * float64(window.next) / float64(s.train))
		}
		s.windows = append(s.windows, window)
	}
	for w := range s.windows {
		for i := range inputs {
			s.windows[w].past[i] /= float32(math.Sqrt(past))
		}
		s.windows[w].next /= float32(math.Sqrt(next))
	}
	s.ppm2 = next
	return s, nil
}

// shuffle puts count of the numbers, drawn at random, in front.
func shuffle(numbers []int, count int, random *random) {
	for i := range count {
		j := i + int(random.bits()%uint64(len(numbers)-i))
		numbers[i], numbers[j] = numbers[j], numbers[i]
	}
}

func countUp(length, first int) []int {
	numbers := make([]int, length)
	for i := range numbers {
		numbers[i] = first + i
	}
	return numbers
}

// ------------------------------------------------- how the library is used ----

func newOptimizer(modulation bool, seed uint64, totalSteps, metaWarmup int) (*metaadamw.Optimizer, error) {
	optimizer, err := metaadamw.New(metaadamw.Options{
		DisableModulation: !modulation,
		Seed:              seed,
		TotalSteps:        totalSteps,
		MetaInterval:      metaInterval,
		MetaWarmup:        metaWarmup,
		Threads:           1, // 10,433 parameters are too few for a second thread
	})
	if err != nil {
		return nil, err
	}
	var described []metaadamw.Tensor
	for l := range layers {
		described = append(described,
			metaadamw.Tensor{Name: fmt.Sprintf("layers.%d.weight", l), Shape: []int{width[l+1], width[l]}, LayerKind: metaadamw.LayerLinear},
			metaadamw.Tensor{Name: fmt.Sprintf("layers.%d.bias", l), Shape: []int{width[l+1]}, LayerKind: metaadamw.LayerLinear})
	}
	// AdamW's best of 3e-4, 5e-4, 1e-3, 2e-3 and 4e-3; MetaAdamW is not tuned.
	_, err = optimizer.AddParamGroup(metaadamw.ParamGroup{LR: new(2e-3)}, described...)
	return optimizer, err
}

// metaUpdate answers the library's requests: the loss, and often the gradient, at the parameters now in the network's
// slices. A request with Replay wants the batch of an earlier request; here each kind has only one batch.
func (s *series) metaUpdate(optimizer *metaadamw.Optimizer, net *mlp, random *random) error {
	train, heldOut := countUp(s.train, 0), countUp(s.heldOut, s.train)
	shuffle(train, 2*batch, random) // one draw, so that the training batches are disjoint
	shuffle(heldOut, batch, random)
	batches := map[metaadamw.Batch][]int{
		metaadamw.Train1: train[:batch], metaadamw.Train2: train[batch : 2*batch], metaadamw.Validation: heldOut[:batch],
	}
	_, err := optimizer.MetaUpdate(metaadamw.Float32s(net.param), metaadamw.Float32s(net.grad),
		func(r metaadamw.Request) (float64, error) {
			return net.loss(s.windows, batches[r.Batch], r.WantsGradient), nil
		})
	return err
}

// outcome of a run: validation MSE of the best and of the last epoch in ppm², wall time.
type outcome struct {
	best, last, seconds float64
	metaUpdates         int
	factors             []metaadamw.Factors
}

func (s *series) run(modulation bool, seed uint64, epochs int) (out outcome, err error) {
	stepsPerEpoch := s.train / batch // a last, smaller batch is left out
	net := newMLP(seed)
	order, validation := countUp(s.train, 0), countUp(s.validation, s.train+s.heldOut)
	orderRandom, metaRandom := random(seed), random(^seed) // separate, so that both optimizers get the same batches

	start := time.Now()
	optimizer, err := newOptimizer(modulation, seed, epochs*stepsPerEpoch, stepsPerEpoch)
	if err != nil {
		return out, err
	}
	defer optimizer.Close()
	out.best = math.Inf(1)
	for epoch := 1; epoch <= epochs; epoch++ {
		loss := 0.0
		shuffle(order, s.train, &orderRandom)
		for step := range stepsPerEpoch {
			loss += net.loss(s.windows, order[step*batch:(step+1)*batch], true) / float64(stepsPerEpoch)
			if _, err := optimizer.Step(metaadamw.Float32s(net.param), metaadamw.Float32s(net.grad)); err != nil {
				return out, err
			}
			if optimizer.MetaDue() {
				if err := s.metaUpdate(optimizer, net, &metaRandom); err != nil {
					return out, err
				}
			}
		}
		out.last = s.ppm2 * net.loss(s.windows, validation, false)
		out.best = min(out.best, out.last)
		meta, err := optimizer.MetaResult()
		if err != nil {
			return out, err
		}
		out.metaUpdates = meta.Updates
		if epoch == 1 || epoch%10 == 0 || epoch == epochs {
			fmt.Printf("seed %d  %-9s  epoch %3d  MSE: train %.4f  validation %.4f  meta-updates %d\n",
				seed, name(modulation), epoch, s.ppm2*loss, out.last, out.metaUpdates)
		}
	}
	out.seconds = time.Since(start).Seconds()
	out.factors, err = optimizer.Factors()
	return out, err
}

// -------------------------------------------------------------- results ----

func name(modulation bool) string {
	if modulation {
		return "MetaAdamW"
	}
	return "AdamW"
}

// spread is mean and standard deviation over outcomes.
func spread(outcomes []outcome, measure func(outcome) float64) string {
	n, mean, square := float64(len(outcomes)), 0.0, 0.0
	for _, o := range outcomes {
		mean += measure(o) / n
	}
	for _, o := range outcomes {
		square += math.Pow(measure(o)-mean, 2)
	}
	return fmt.Sprintf("  %8.4f +- %6.4f", mean, math.Sqrt(square/max(n-1, 1)))
}

func main() {
	log.SetFlags(0)
	epochs := flag.Int("epochs", 60, "epochs of each run")
	seeds := flag.Int("seeds", 5, "runs of each optimizer")
	data := flag.String("data", "../../data/co2_weekly.h", "the figures")
	flag.Parse()
	if *epochs < 1 || *seeds < 1 || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	s, err := readSeries(*data)
	if err != nil {
		log.Fatal(err)
	}

	persistence := 0.0
	for _, w := range s.windows[s.train+s.heldOut:] {
		persistence += s.ppm2 * float64(w.next) * float64(w.next) / float64(s.validation)
	}
	fmt.Printf("libmetaadamw %s: %d weeks, windows of %d: %d to train, %d held out, %d to validate\n",
		metaadamw.Version(), s.weeks, inputs, s.train, s.heldOut, s.validation)
	outcomes := map[bool][]outcome{}
	for seed := range *seeds {
		for _, modulation := range []bool{false, true} {
			out, err := s.run(modulation, uint64(seed+1), *epochs)
			if err != nil {
				log.Fatal(err)
			}
			outcomes[modulation] = append(outcomes[modulation], out)
		}
	}

	fmt.Printf("\n%d seeds (mean +- standard deviation), %d epochs; MSE in ppm^2; \"as last week\" has %.4f\n\n",
		*seeds, *epochs, persistence)
	fmt.Printf("%-9s  %18s  %18s  %18s  %12s\n", "", "best validation", "last validation", "seconds", "meta-updates")
	for _, modulation := range []bool{false, true} {
		fmt.Printf("%-9s%s%s%s  %12d\n", name(modulation),
			spread(outcomes[modulation], func(o outcome) float64 { return o.best }),
			spread(outcomes[modulation], func(o outcome) float64 { return o.last }),
			spread(outcomes[modulation], func(o outcome) float64 { return o.seconds }),
			outcomes[modulation][0].metaUpdates)
	}
	fmt.Printf("\nMetaAdamW - AdamW, best validation, seed by seed:")
	for seed := range *seeds {
		fmt.Printf(" %+.4f", outcomes[true][seed].best-outcomes[false][seed].best)
	}
	fmt.Printf("\n\nMetaAdamW's factors at the end, seed %d\n\n%-28s  %6s  %6s\n", *seeds, "group", "alpha", "beta")
	for _, f := range outcomes[true][*seeds-1].factors {
		fmt.Printf("%-28s  %6.4f  %6.4f\n", f.Group, f.Alpha, f.Beta)
	}
}
