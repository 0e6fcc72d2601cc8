//! Updates against `torch.optim`'s formulas in f64.

use parlor_kernels::optimizer::{self, AdamW, Sgd};

use crate::{Numbers, close, wide};

#[test]
fn adamw_follows_torch() {
    let mut numbers = Numbers::new(11);
    let n = 40_001; // more than one chunk, odd
    let mut p = numbers.vec(n);
    let (mut m, mut v) = (vec![0.0; n], vec![0.0; n]);
    let (mut wp, mut wm, mut wv) = (wide(&p), vec![0.0; n], vec![0.0; n]);
    for step in 1..=5u64 {
        let g = numbers.vec(n);
        let lr = 1e-2 / step as f32;
        let hyper = AdamW { lr, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.1, step };
        optimizer::adamw(&mut p, &g, &mut m, &mut v, 0.5, &hyper);
        let (lr, b1, b2) = (f64::from(lr), f64::from(0.9f32), f64::from(0.999f32));
        for i in 0..n {
            let g = 0.5 * f64::from(g[i]);
            wp[i] *= 1.0 - lr * f64::from(0.1f32);
            wm[i] = b1 * wm[i] + (1.0 - b1) * g;
            wv[i] = b2 * wv[i] + (1.0 - b2) * g * g;
            let (mh, vh) = (wm[i] / (1.0 - b1.powi(step as i32)), wv[i] / (1.0 - b2.powi(step as i32)));
            wp[i] -= lr * mh / (vh.sqrt() + f64::from(1e-8f32));
        }
    }
    close("parameter", &p, &wp);
    close("first moment", &m, &wm);
    close("second moment", &v, &wv);
}

#[test]
fn sgd_follows_torch() {
    let mut numbers = Numbers::new(12);
    let (mut p, mut buffer) = (numbers.vec(77), vec![0.0; 77]);
    let mut plain = p.clone();
    let (mut wp, mut wb, mut wplain) = (wide(&p), vec![0.0; 77], wide(&p));
    for _ in 0..4 {
        let g = numbers.vec(77);
        let hyper = Sgd { lr: 0.1, momentum: 0.9, weight_decay: 0.01 };
        optimizer::sgd(&mut p, &g, Some(&mut buffer), 2.0, &hyper);
        optimizer::sgd(&mut plain, &g, None, 2.0, &hyper);
        for i in 0..77 {
            let g = 2.0 * f64::from(g[i]);
            wb[i] = 0.9 * wb[i] + g + 0.01 * wp[i];
            wp[i] -= 0.1 * wb[i];
            wplain[i] -= 0.1 * (g + 0.01 * wplain[i]);
        }
    }
    close("momentum", &p, &wp);
    close("plain", &plain, &wplain);
}
