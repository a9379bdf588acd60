"""What optimizers and schedules do over several steps, for make_golden.py.

PyTorch's own where it has them. Ftrl, LARS and LAMB are written here from their papers, in float64. Parameters are two
arrays (lengths SPLIT), because LARS and LAMB look at whole arrays.
"""
import json, math
import numpy as np, torch
from safetensors.numpy import save_file

STEPS, COUNT, SPLIT = 6, 37, (20, 17)


class Ftrl:
    """McMahan et al. 2013, "Ad Click Prediction", algorithm 1 with L2 shrinkage, as TensorFlow's and BigDL's Ftrl count
    their parameters: the penalty l1 |w| + l2 w², and the shrinkage in the gradient that pulls, not in the sums."""

    def __init__(self, params, lr=1e-3, initial_accumulator_value=.1, l1_regularization_strength=0.,
                 l2_regularization_strength=0., l2_shrinkage_regularization_strength=0., beta=0.):
        self.params, self.lr, self.beta = params, lr, beta
        self.l1, self.l2 = l1_regularization_strength, l2_regularization_strength
        self.shrinkage = l2_shrinkage_regularization_strength
        self.n = [torch.full_like(w, initial_accumulator_value) for w in params]
        self.z = [torch.zeros_like(w) for w in params]

    def step(self):
        for w, n, z in zip(self.params, self.n, self.z):
            g, old = w.grad, n.clone()
            n += g * g
            z += g + 2 * self.shrinkage * w.data - (n.sqrt() - old.sqrt()) / self.lr * w.data
            pull = (self.beta + n.sqrt()) / self.lr + 2 * self.l2
            w.data = torch.where(z.abs() > self.l1, (self.l1 * z.sign() - z) / pull, torch.zeros_like(z))


class Lars:
    """You, Gitman and Ginsburg 2017, "Large Batch Training of Convolutional Networks", algorithm 1."""

    def __init__(self, params, lr, momentum=.9, weight_decay=0., trust_coefficient=1e-3):
        self.params, self.lr, self.momentum = params, lr, momentum
        self.decay, self.trust = weight_decay, trust_coefficient
        self.v = [torch.zeros_like(w) for w in params]

    def step(self):
        for w, v in zip(self.params, self.v):
            weight, gradient = w.data.norm(), w.grad.norm()
            local = self.trust * weight / (gradient + self.decay * weight) if weight > 0 and gradient > 0 else 1.
            v.mul_(self.momentum).add_(self.lr * local * (w.grad + self.decay * w.data))
            w.data -= v


class Lamb:
    """You et al. 2020, "Large Batch Optimization for Deep Learning", algorithm 2 with φ(z) = z."""

    def __init__(self, params, lr=1e-3, betas=(.9, .999), eps=1e-6, weight_decay=0.):
        self.params, self.lr, self.betas, self.eps, self.decay = params, lr, betas, eps, weight_decay
        self.m, self.v = [torch.zeros_like(w) for w in params], [torch.zeros_like(w) for w in params]
        self.t = 0

    def step(self):
        self.t += 1
        b1, b2 = self.betas
        for w, m, v in zip(self.params, self.m, self.v):
            m.mul_(b1).add_((1 - b1) * w.grad)
            v.mul_(b2).add_((1 - b2) * w.grad ** 2)
            r = m / (1 - b1 ** self.t) / ((v / (1 - b2 ** self.t)).sqrt() + self.eps) + self.decay * w.data
            weight, length = w.data.norm(), r.norm()
            ratio = weight / length if weight > 0 and length > 0 else 1.
            w.data -= self.lr * ratio * r


def parameters(noise, zeros=False):
    """The two arrays the updates begin with; `zeros`: the second holds nothing but 0."""
    arrays = list(torch.from_numpy(noise(1, COUNT)).double().split(SPLIT))
    if zeros:
        arrays[1] = torch.zeros_like(arrays[1])
    return [a.clone().requires_grad_() for a in arrays]


def give_gradients(noise, params, step):
    for w, g in zip(params, torch.from_numpy(noise(100 + step, COUNT)).double().split(SPLIT)):
        w.grad = g.clone()


def flat(params):
    return torch.cat([w.detach().reshape(-1) for w in params]).numpy().astype(np.float32)


def optimizers(out, noise):
    O = torch.optim
    moments = {"lr": .02, "beta1": .8, "beta2": .95, "eps": 1e-4, "weight_decay": .05}
    table = {
        "sgd": (O.SGD, [
            {"lr": .1}, {"lr": .1, "momentum": .9},
            {"lr": .05, "momentum": .8, "dampening": .3, "weight_decay": .01},
            {"lr": .05, "momentum": .9, "nesterov": True, "weight_decay": .1}]),
        "adam": (O.Adam, [{}, moments]),
        "adamw": (O.AdamW, [{}, moments]),
        "adamax": (O.Adamax, [{}, moments]),
        "adagrad": (O.Adagrad, [
            {}, {"lr": .1, "lr_decay": .05, "weight_decay": .02, "initial_accumulator_value": .3, "eps": 1e-3}]),
        "adadelta": (O.Adadelta, [{}, {"lr": .5, "rho": .8, "eps": 1e-3, "weight_decay": .02}]),
        "rmsprop": (O.RMSprop, [
            {}, {"lr": .02, "alpha": .9, "eps": 1e-3, "weight_decay": .03}, {"momentum": .8},
            {"centered": True, "alpha": .8}, {"centered": True, "momentum": .5, "alpha": .9, "weight_decay": .02}]),
        "ftrl": (Ftrl, [
            {}, {"lr": .3, "l1_regularization_strength": .4, "l2_regularization_strength": .05},
            {"lr": .2, "l2_shrinkage_regularization_strength": .1, "beta": 1., "initial_accumulator_value": 0.}]),
        "lars": (Lars, [{"lr": .5}, {"lr": 2., "momentum": .8, "weight_decay": .01, "trust_coefficient": .05}]),
        "lamb": (Lamb, [{}, moments]),
    }
    for name, (kind, cases) in table.items():
        arrays, described = {}, []
        for i, params in enumerate(cases):
            zeros = name in ("lars", "lamb") and i == 1
            w, options = parameters(noise, zeros), dict(params)
            if "beta1" in options:
                options["betas"] = (options.pop("beta1"), options.pop("beta2"))
            optimizer = kind(w, **options)
            for step in range(STEPS):
                give_gradients(noise, w, step)
                optimizer.step()
                arrays[f"{i}.{step}"] = flat(w)
            described.append({"records": STEPS, "shape": [COUNT], "params": params, "zeros": zeros})
        save_file(arrays, out / f"{name}.safetensors", metadata={"cases": json.dumps(described)})


def updater(out, noise):
    """Six updates of a model 5 -> 3 -> 2 with three groups of parameters, penalties, both kinds of clipping, a schedule
    and an average of the weights."""
    names, shapes = ["0.weight", "0.bias", "2.weight", "2.bias"], [(3, 5), (3,), (2, 3), (2,)]
    model = torch.nn.Sequential(torch.nn.Linear(5, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2)).double()
    params = dict(model.named_parameters())
    for i, (name, shape) in enumerate(zip(names, shapes)):
        params[name].data = torch.from_numpy(noise(10 + i, math.prod(shape)).reshape(shape)).double()
    params["2.bias"].requires_grad_(False)
    first, second = [params["0.weight"], params["0.bias"]], [params["2.weight"]]
    adamw = torch.optim.AdamW(first, lr=.02)
    sgd = torch.optim.SGD(second, lr=.1 * .5, momentum=.9, weight_decay=.01 * 3)
    schedules = [torch.optim.lr_scheduler.StepLR(o, 2, .5) for o in (adamw, sgd)]
    average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(.8))
    arrays, learned = {}, first + second
    for step in range(STEPS):
        for i, name in enumerate(names):
            params[name].grad = torch.from_numpy(noise(100 + 10 * step + i, params[name].numel())
                                                 .reshape(params[name].shape)).double()
        for w in first:
            w.grad += .05 * w.data.sign() + .1 * w.data
        torch.nn.utils.clip_grad_value_(learned, .6)
        torch.nn.utils.clip_grad_norm_(learned, 1.)
        for o in (adamw, sgd, *schedules):
            o.step()
        average.update_parameters(model)
        arrays[f"{step}"] = flat(params.values())
        arrays[f"{step}.average"] = flat(average.module.parameters())
    save_file(arrays, out / "updater.safetensors")


def schedules(out):
    L, epochs, per_epoch = torch.optim.lr_scheduler, 5, 4
    def run(make, stride):
        """Factors of all steps of a job; the scheduler moves every `stride` steps."""
        w = torch.zeros(1, requires_grad=True)
        optimizer = torch.optim.SGD([w], lr=1.)
        scheduler, factors = make(optimizer), []
        for step in range(epochs * per_epoch):
            factors.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if (step + 1) % stride == 0:
                scheduler.step()
        return factors
    def chained(o):
        return L.ChainedScheduler([L.LinearLR(o, start_factor=.25, total_iters=6), L.StepLR(o, 5, .5)])
    rows = [
        ("constant", "constant", {}, run(lambda o: L.ConstantLR(o, factor=1.), 1)),
        ("step", "step", {"step_size": 2}, run(lambda o: L.StepLR(o, 2), per_epoch)),
        ("step", "step", {"step_size": 3, "gamma": .7, "unit": "step"}, run(lambda o: L.StepLR(o, 3, .7), 1)),
        ("polynomial", "polynomial", {}, run(lambda o: L.PolynomialLR(o, epochs * per_epoch, 1.), 1)),
        ("polynomial", "polynomial", {"power": 2., "total_steps": 12}, run(lambda o: L.PolynomialLR(o, 12, 2.), 1)),
        ("warmup", "step", {"step_size": 5, "gamma": .5, "unit": "step", "warmup_steps": 6, "warmup_from": .25},
         run(chained, 1))]
    rows = [{"test": t, "name": n, "params": p, "steps_per_epoch": per_epoch, "epochs": epochs, "factors": f}
            for t, n, p, f in rows]
    (out / "schedules.json").write_text(json.dumps(rows, indent=1) + "\n")
