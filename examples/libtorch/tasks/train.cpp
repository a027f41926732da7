// One run of one of the paper's five tasks, with AdamW or MetaAdamW, on libtorch.
//
//     train --task etth1|wikitext2|multi30k|cifar10|imdb --data DIR --log FILE
//           [--optimizer adamw|torch_adamw|schedule_free|metaadamw] [--preset paper|horizon] [--seed N] [--resume]
//           [--limit F] [--width F] [--device cpu|cuda] [--lr X] [--epochs N] …
//
// settings.hpp lists the flags; an unknown one is answered with all of them. The log (JSON lines: the settings, one line an
// epoch with the optimizer's dump, the result) is what `metaadamw-experiment` and `metaadamw-plot` read. Beside it lies a
// checkpoint of the last epoch until the run is over; --resume continues from there with the same bits.
#include "training.hpp"

#ifdef __GLIBC__
#include <malloc.h>
#endif

int main(int argc, char** argv) try {
    Settings settings = settings_from(argc, argv);
    if (Log::is_finished(settings.log)) {
        std::fprintf(stderr, "%s: this run is over\n", settings.log.c_str());
        return settings.resume ? 0 : 1;
    }
    if (!settings.resume && std::filesystem::exists(settings.log))
        throw std::runtime_error("--log " + settings.log + ": exists; --resume continues it");
#ifdef __GLIBC__
    // Memory of activations stays with the process: to map it anew at every step takes a third of the time.
    mallopt(M_MMAP_THRESHOLD, 32 << 20);
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
#endif
    torch::set_num_threads(static_cast<int>(settings.threads));
    std::string const json = flags_of(settings).json();
    Training(settings, json).run();
} catch (std::exception const& error) {
    std::fprintf(stderr, "train: %s\n", error.what());
    return 1;
}
