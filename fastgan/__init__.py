"""fastgan: a GAN/VAE inference engine. A trained generator comes in as ONNX; images come out.

    import fastgan
    images = fastgan.load("dcgan.onnx").generate(n=1024)
"""
